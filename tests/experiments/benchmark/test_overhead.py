import json
import time

import lightning as L
import pytest
import torch

from experiments.benchmark import __main__ as command
from experiments.benchmark import overhead
from experiments.config.check import load_config
from experiments.training.build import build_data, build_model


class Steps(L.LightningModule):
    """A fit whose steps take at least five milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        time.sleep(0.005)
        return (self.weight * batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_turns_are_whole_chunks_and_end_the_fit() -> None:
    """Epochs of seven steps hold two chunks of three: the seventh step is nobody's."""
    bare: list[int] = []
    model = Steps()
    watcher = overhead.TakingTurns(lambda: bare.append(1), chunk=3, turns=4)
    trainer = L.Trainer(barebones=True, accelerator="cpu", max_epochs=20, callbacks=[watcher])
    trainer.fit(model, torch.utils.data.DataLoader(torch.ones(7, 1)))
    assert len(watcher.fit) == len(watcher.bare) == 5
    assert watcher.fit_seconds() >= 0.005
    assert watcher.ratio() > 10
    # Two whole epochs, in each of which a chunk begun on the seventh step is thrown away; of the third one
    # chunk, and the step before which it ends.
    assert len(bare) == 3 * (2 * 3 + 1)
    assert trainer.global_step == 2 * 7 + 4


@pytest.mark.slow
@pytest.mark.parametrize("name", list(overhead.LIMITS))
def test_bare_steps_are_the_steps_of_the_fit(name: str) -> None:
    """From the same seed both come to the same weights: neither leaves a part of the step out."""
    quick = {**overhead.QUICK, "trainer": {"precision": "32-true", "max_epochs": 1}}
    experiment = load_config(f"configs/{name}.yaml", quick)
    torch.manual_seed(0)
    bare = overhead.BareLoop(experiment)
    torch.manual_seed(0)
    data = build_data(experiment)
    module = build_model(experiment, data.info)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=data)
    for _ in range(trainer.global_step):
        bare.step()
    for name, value in module.network.state_dict().items():
        torch.testing.assert_close(bare.network.state_dict()[name], value, msg=name)


@pytest.mark.slow
def test_command(tmp_path, capsys) -> None:
    path = tmp_path / "overhead.json"
    assert command.main(["overhead", "--quick", "--json", str(path)]) == 0
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [(row["experiment"], row["step"]) for row in rows] == [
        (name, step) for name in overhead.LIMITS for step in ("bare loop", "barebones", "full")
    ]
    assert all(row["ms"]["mean"] > 0 for row in rows)
    printed = capsys.readouterr().out
    assert "target: ≤ 1.15 ×" in printed
