"""The graph of the operations is drawn on request, and a model that cannot be traced is no error."""

from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import experiments
from experiments.errors import RunError
from lit_modules.image_classifier import ImageClassifier


def has_graph(run_dir: Any) -> bool:
    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    return events.Tags()["graph"]


@pytest.mark.slow
def test_a_fit_with_the_graph_is_the_same_fit(tiny: dict[str, Any]) -> None:
    plain = experiments.run({**tiny, "run_dir": "plain"})
    drawn = experiments.run({**tiny, "run_dir": "drawn"}, "trainer.measure=[graph]")
    assert has_graph(drawn.run_dir)
    assert not has_graph(plain.run_dir)
    for name, tensor in plain.module.state_dict().items():
        assert torch.equal(tensor, drawn.module.state_dict()[name]), name


@pytest.mark.slow
def test_a_transformer_is_traced(language_settings: dict[str, Any], tmp_path: Any) -> None:
    trainer = {**language_settings["trainer"], "measure": ["graph"], "max_epochs": 1}
    result = experiments.run({**language_settings, "trainer": trainer, "run_dir": str(tmp_path / "run")})
    assert has_graph(result.run_dir)


def test_an_error_without_words_is_named_and_a_failed_write_is_not_hidden(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures: list[Exception] = [AssertionError(), RunError("cannot write x: No space left on device")]

    def fail(*_: Any, **__: Any) -> None:
        raise failures.pop(0)

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_graph", fail)
    experiments.run(tiny, "trainer.measure=[graph]", "run_dir=first")
    assert "cannot trace the model: AssertionError\n" in capsys.readouterr().out
    with pytest.raises(RunError, match="No space left"):
        experiments.run(tiny, "trainer.measure=[graph]", "run_dir=second")


def test_a_model_that_cannot_be_traced_trains_and_says_so_in_one_line(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        print("many lines of PyTorch")
        raise RuntimeError("not traceable\nand more")

    monkeypatch.setattr("torch.jit.trace", refuse)
    result = experiments.run(tiny, "trainer.measure=[graph]")
    out = capsys.readouterr().out
    assert "no graph: PyTorch cannot trace the model: not traceable\n" in out
    assert "many lines" not in out
    assert isinstance(result.module, ImageClassifier)
