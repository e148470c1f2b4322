"""The character RNN: what a step is, the state from batch to batch, and the first lesson as it is taught."""

import json
import math
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import experiments
from datamodules.info import ImageInfo, SequenceLabellingInfo, TextInfo
from experiments import register
from experiments.config import registry
from experiments.errors import Interrupted, UserError
from experiments.launch import main
from experiments.training import checkpoint
from lit_modules.char_rnn import CharRNN
from lit_modules.configs.char_rnn import CharRNNConfig
from lit_modules.configs.optim import SGDConfig
from lit_modules.metrics.token_metrics import IGNORED

VOCABULARY = 6


TEXT = TextInfo(
    vocab_size=VOCABULARY, context_length=5, continuous=True, bytes_per_token=1.5, test_bytes_per_token=2.0
)
WORDS = SequenceLabellingInfo(class_names=tuple("abcdef"), vocab_size=VOCABULARY, context_length=5)


def model(info: Any = None, **settings: Any) -> CharRNN:
    torch.manual_seed(0)
    config = CharRNNConfig(**{"hidden": 7, "embedding": 4, **settings})
    return CharRNN(config, TEXT if info is None else info, optimizer=SGDConfig(lr=0.1))


def windows(rows: int = 3, steps: int = 20, width: int = 5, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Successive batches of streams, as a sequential loader serves them."""
    text = torch.randint(VOCABULARY, (rows, steps + 1), generator=torch.Generator().manual_seed(seed))
    return [(text[:, i : i + width], text[:, i + 1 : i + 1 + width]) for i in range(0, steps, width)]


def trainer(**options: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


def loader(batches: list[tuple[Tensor, Tensor]]) -> Any:
    tensors = [torch.stack(parts) for parts in zip(*batches, strict=True)]
    return DataLoader(TensorDataset(*tensors), batch_size=None)


# --------------------------------------------------------------------------------------------- steps


def test_a_training_step_is_cross_entropy_over_the_positions_that_count() -> None:
    module = model()
    tokens, targets = windows()[0]
    targets = targets.clone()
    targets[1, 3:] = IGNORED
    step = module.training_step((tokens, targets), 0)
    logits = module(tokens)
    expected = torch.stack(
        [-logits[i, j].log_softmax(0)[targets[i, j]] for i, j in (targets != IGNORED).nonzero().tolist()]
    ).mean()
    torch.testing.assert_close(step["loss"], expected)
    assert step["logits"].shape == (3, 5, VOCABULARY)
    assert not step["logits"].requires_grad
    step["loss"].backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("form", ["one_hot", "embedding"])
def test_every_way_to_compute_it_is_the_same_network(cell: Any, form: Any) -> None:
    (tokens, targets), *_ = windows()
    steps = []
    for loop in (False, True):
        for kernel in ("fused", "by_hand"):
            module = model(cell=cell, input=form, num_layers=2, loop=loop, implementation=kernel)
            loss = module.training_step((tokens, targets), 0)["loss"]
            loss.backward()
            steps.append((loss, [p.grad for p in module.parameters()]))
    for step in steps[1:]:
        torch.testing.assert_close(step, steps[0])


@pytest.mark.parametrize("stage", ["val", "test"])
def test_of_a_text_loss_perplexity_and_bits_per_byte_are_logged(stage: str) -> None:
    module, batches = model(), windows()
    batches[-1][1][2, 4] = IGNORED
    run = trainer().validate if stage == "val" else trainer().test
    for _ in range(2):  # the second pass shows that nothing is left of the first
        (metrics,) = run(module, loader(batches), verbose=False)
        tokens, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        loss = F.cross_entropy(module(tokens).flatten(0, 1), targets.flatten()).item()
        bytes_per_token = 1.5 if stage == "val" else 2.0
        assert metrics == {
            f"{stage}/loss": pytest.approx(loss, rel=1e-5),
            f"{stage}/perplexity": pytest.approx(math.exp(loss), rel=1e-5),
            f"{stage}/bits_per_byte": pytest.approx(loss / math.log(2) / bytes_per_token, rel=1e-5),
        }


def test_of_sequences_accuracy_and_success_are_logged_and_the_answer_is_noted() -> None:
    module = model(WORDS)
    tokens = torch.tensor([[0, 1, 2, 3, 4], [5, 4, 3, 2, 1], [1, 1, 1, 1, 1]])
    answers = module(tokens).argmax(-1)
    targets = answers.clone()
    targets[1, 2] = (answers[1, 2] + 1) % VOCABULARY  # one mistake
    targets[2, 0] = IGNORED
    assert module.progress_note() == ""
    (metrics,) = trainer().validate(module, loader([(tokens, targets)]), verbose=False)
    assert metrics.keys() == {"val/loss", "val/accuracy", "val/success"}
    assert metrics["val/accuracy"] == pytest.approx(13 / 14)
    assert metrics["val/success"] == pytest.approx(2 / 3)
    assert module.progress_note() == "predicted " + "".join("abcdef"[i] for i in answers[0].tolist())


def test_a_loss_that_is_no_number_is_reported_as_such() -> None:
    module = model()
    nn.init.constant_(module.network.head.bias, float("nan"))  # type: ignore[union-attr]
    (metrics,) = trainer().validate(module, loader(windows()), verbose=False)
    assert math.isnan(metrics["val/loss"])


def test_a_text_has_the_dashboard_of_language_and_a_lesson_none() -> None:
    assert model().dashboard == "language"
    assert model(WORDS).dashboard is None


# --------------------------------------------------------------------------------------------- carried state


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("loop", [False, True])
def test_with_a_carried_state_windows_are_one_long_text(cell: Any, loop: bool) -> None:
    module = model(cell=cell, loop=loop, carry_state=True)
    batches = windows()
    whole = module(torch.cat([tokens for tokens, _ in batches], dim=1))
    for stage in ("training", "validation", "test"):
        step = getattr(module, f"{stage}_step")
        module.log = lambda *_, **__: None  # type: ignore[method-assign]
        steps = [step(batch, index)["logits"] for index, batch in enumerate(batches)]
        torch.testing.assert_close(torch.cat(steps, dim=1), whole)
        # The next epoch starts anew.
        torch.testing.assert_close(step(batches[0], 0)["logits"], whole[:, :5])


def test_without_it_each_window_stands_alone() -> None:
    module, batches = model(), windows()
    for index, (tokens, targets) in enumerate(batches):
        torch.testing.assert_close(module.training_step((tokens, targets), index)["logits"], module(tokens))


def test_a_validation_within_an_epoch_leaves_the_training_state_alone() -> None:
    module, batches = model(carry_state=True), windows()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    expected = [module.training_step(batch, index)["logits"] for index, batch in enumerate(batches)]
    seen = []
    for index, batch in enumerate(batches):
        seen.append(module.training_step(batch, index)["logits"])
        for place, other in enumerate(windows(rows=2, seed=9)):
            module.validation_step(other, place)
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gradients_end_at_the_batchs_start(cell: Any) -> None:
    module, (first, second, *_) = model(cell=cell, carry_state=True), windows()
    module.training_step(first, 0)
    module.training_step(second, 1)["loss"].backward()
    own = {name: p.grad for name, p in module.named_parameters()}

    # PyTorch's layers with the same weights, the state between the windows a mere number.
    embedding, head = nn.Embedding(VOCABULARY, 4), nn.Linear(7, VOCABULARY)
    stack = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](4, 7, batch_first=True)
    layers = nn.ModuleDict({"embedding": embedding, "recurrent": stack, "head": head})
    layers.load_state_dict(module.network.state_dict())
    gradients = []
    for truncated in (True, False):
        layers.zero_grad()
        _, state = stack(embedding(first[0]))
        if truncated:
            state = tuple(p.detach() for p in state) if cell == "lstm" else state.detach()
        hidden, _ = stack(embedding(second[0]), state)
        F.cross_entropy(head(hidden).flatten(0, 1), second[1].flatten()).backward()
        gradients.append({f"network.{k}": p.grad.clone() for k, p in layers.named_parameters()})
    torch.testing.assert_close(own, gradients[0])
    name = "network.recurrent.weight_hh_l0"
    assert not torch.allclose(own[name], gradients[1][name], rtol=1e-3)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- resume


class StoppableRNN(CharRNN):
    """Sends itself a signal at a chosen training step."""

    stop_at: int | None = None
    steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        if StoppableRNN.steps == StoppableRNN.stop_at:
            StoppableRNN.stop_at = None
            signal.raise_signal(signal.SIGTERM)
        StoppableRNN.steps += 1
        return super().training_step(batch, batch_idx)


@pytest.fixture
def stoppable(work: Path) -> Iterator[dict[str, Any]]:
    """Two epochs of eight steps over a small text, its state carried."""
    (work / "text.txt").write_text("".join("abcdefgh \n"[(i * i // 7 + i // 3) % 10] for i in range(420)))
    register("model", "stoppable_rnn", StoppableRNN, CharRNNConfig)
    yield {
        "name": "stoppable",
        "model": {"name": "stoppable_rnn", "hidden": 8, "embedding": 4, "dropout": 0.1, "carry_state": True},
        "data": {
            "name": "text",
            "path": "text.txt",
            "context_length": 12,
            "batch_size": 4,
            "eval_batch_size": 1,
            "sampling": "sequential",
        },
        "optimizer": {"name": "adamw", "lr": 0.02},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "precision": "32-true",
            "gradient_clip_norm": 0.1,
            "log_every_n_steps": 1,
            "dashboard": False,
            "progress_bar": False,
        },
    }
    StoppableRNN.stop_at = None
    del registry.CATALOG["model"]["stoppable_rnn"]
    registry.OWN.discard(("model", "stoppable_rnn"))


def stop(sources: Any, *more: str, at: int) -> Path:
    StoppableRNN.stop_at, StoppableRNN.steps = at, 0
    with pytest.raises(Interrupted) as caught:
        experiments.run(sources, *more)
    return caught.value.path


def curve(run: Path) -> list[str]:
    return [line for line in (run / "metrics.csv").read_text().splitlines() if "per_second" not in line]


def assert_same_run(full: Path, cut: Path) -> None:
    states = [checkpoint.load(run / "checkpoints" / "last.ckpt") for run in (full, cut)]
    for key in ("state_dict", "carried_state"):
        torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)
    assert curve(full) == curve(cut)
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (full, cut)]
    assert metrics[0]["test/loss"] == metrics[1]["test/loss"]


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_stopped_run_goes_on_from_the_same_state_to_the_bit(cell: str, stoppable: dict[str, Any]) -> None:
    stoppable["model"]["cell"] = cell
    full = experiments.run(stoppable, "run_dir=full")
    steps = int(full.metrics["steps"])
    assert steps == 16
    for number, at in enumerate((0, 3, 6, 7, 8, 12, steps - 1)):
        last = stop(stoppable, f"run_dir=cut{number}", at=at)
        state = checkpoint.load(last)["carried_state"]
        assert [tuple(part.shape) for part in state] == [(1, 1, 4, 8)] * (2 if cell == "lstm" else 1)
        cut = experiments.run(stoppable, f"run_dir=cut{number}", "resume=auto")
        assert_same_run(full.run_dir, cut.run_dir)


def test_it_is_the_state_that_makes_it_so(stoppable: dict[str, Any]) -> None:
    full = experiments.run(stoppable, "run_dir=full")
    last = stop(stoppable, "run_dir=cut", at=3)
    saved = checkpoint.load(last)
    saved["carried_state"] = [torch.zeros_like(part) for part in saved["carried_state"]]
    torch.save(saved, last)
    cut = experiments.run(stoppable, "run_dir=cut", "resume=auto")
    assert full.metrics["test/loss"] != cut.metrics["test/loss"]


def test_each_rank_gets_its_own_state_back() -> None:
    """As if there were two: what they gather is stacked."""
    module, batches = model(cell="lstm", carry_state=True), windows()
    module.training_step(batches[0], 0)
    own = module._carried["train"]
    others = tuple(part + 1 for part in own)
    module.all_gather = lambda state: tuple(map(torch.stack, zip(others, state, strict=True)))  # type: ignore[method-assign]
    saved: dict[str, Any] = {}
    module.on_save_checkpoint(saved)
    assert [part.shape for part in saved["carried_state"]] == [(2, 1, 3, 7)] * 2
    for rank, expected in ((0, others), (1, own)):
        again = model(cell="lstm", carry_state=True)
        again.__dict__["_trainer"] = SimpleNamespace(global_rank=rank)
        again.on_load_checkpoint(saved)
        torch.testing.assert_close(again._carried["train"], expected, rtol=0, atol=0)


# --------------------------------------------------------------------------------------------- text


def test_a_text_run_writes_samples_and_is_continued_and_scored_from_the_command_line(
    stoppable: dict[str, Any], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from experiments.evaluate import __main__ as evaluate
    from experiments.language_models.opening import open_trained
    from experiments.sample import __main__ as sample

    stoppable["model"]["name"] = "char_rnn"
    stoppable["trainer"]["dashboard"] = True
    run = experiments.run(stoppable, "run_dir=text").run_dir
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert "samples/text_summary" in tags["tensors"]
    assert {"val/perplexity", "val/bits_per_byte", "train/gradient_norm"} <= set(tags["scalars"])

    texts = []
    for more in ([], ["--no-cache"]):
        capsys.readouterr()
        settings = ["--prompt", "abc", "--prompt", "h", "--max-new-tokens", "20", "--seed", "1", "--json"]
        assert sample.main([str(run), *settings, *more]) == 0
        texts.append([json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()])
    assert texts[0] == texts[1]
    assert [len(text) for text in texts[0]] == [20, 20]

    # A text is scored in one go: an RNN's context has no end.
    assert evaluate.main([str(run), "--text", "text.txt"]) == 0
    loaded = open_trained(run)
    tokens = torch.tensor([loaded.tokenizer.encode(Path("text.txt").read_text())])
    with torch.no_grad():
        loss = F.cross_entropy(loaded.network(tokens)[0, :-1], tokens[0, 1:]).item()
    assert f"{loss:.4f}" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------- the lesson


def lesson(**model_settings: Any) -> dict[str, Any]:
    hello = {"name": "char_rnn", "cell": "rnn", "input": "one_hot", "hidden": 4, "read_out": False}
    return {
        "name": "hello",
        "model": hello | model_settings,
        "data": {"name": "hello"},
        "optimizer": {"name": "adam", "lr": 0.1},
        "trainer": {
            "max_epochs": 15,
            "accelerator": "cpu",
            "precision": "32-true",
            "dashboard": False,
        },
    }


def as_taught(seed: int) -> list[str]:
    """The lesson in plain PyTorch: a loop over a cell, losses summed; what it predicts before each step."""
    alphabet, inputs, labels = "ehlo", torch.tensor([1, 0, 2, 2, 3]), torch.tensor([3, 1, 2, 3, 2])
    torch.manual_seed(seed)
    cell = nn.RNNCell(4, 4)
    optimizer = torch.optim.Adam(cell.parameters(), lr=0.1)
    predicted = []
    for _ in range(16):
        hidden, loss, word = torch.zeros(1, 4), torch.zeros(()), ""
        for character, label in zip(F.one_hot(inputs, 4).float(), labels, strict=True):
            hidden = cell(character[None], hidden)
            loss = loss + F.cross_entropy(hidden, label[None])
            word += alphabet[int(hidden.argmax())]
        predicted.append(word)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return predicted


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hello_is_answered_as_in_the_lesson(
    seed: int, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seed 0 never gets there, 1 and 2 do; layer and loop go the same way."""
    taught = as_taught(seed)
    for loop in (False, True):
        result = experiments.run(lesson(loop=loop), f"seed={seed}")
        *printed, last = re.findall(r"predicted (\w+)", capsys.readouterr().out)
        assert printed == taught[1:]  # we print what is predicted after an epoch's step
        assert (last == "ohlol") == (taught[-1] == "ohlol")  # and at the end what the best weights predict
        assert result.metrics["test/success"] == (taught[-1] == "ohlol")
        assert result.metrics["parameters"] == 40
    assert (taught[-1] == "ohlol") == (seed > 0)


def test_eight_states_with_a_read_out_get_there(work: Path) -> None:
    for settings in ({}, {"input": "embedding", "embedding": 10}):
        result = experiments.run(lesson(hidden=8, read_out=True, **settings))
        assert result.metrics["test/success"] == 1.0


# --------------------------------------------------------------------------------------------- bad input


def test_what_does_not_fit_is_refused_in_one_line(work: Path) -> None:
    with pytest.raises(
        UserError, match=r"model: hidden: 8 with read_out false .* set hidden to 4, or read_out"
    ):
        experiments.run(lesson(hidden=8))
    with pytest.raises(UserError, match=r"model: carry_state: true needs .* data.sampling to sequential"):
        experiments.run(lesson(carry_state=True))
    with pytest.raises(ValueError, match=r"kind 'images'; choose data\.name hello"):
        model(ImageInfo(input_shape=(1, 8, 8), class_names=("a",), mean=(0.1,), std=(0.3,)))
    with pytest.raises(UserError, match=r"model.cell = 'gruu' .* allowed: rnn, gru, lstm"):
        experiments.run(lesson(cell="gruu"))


@pytest.mark.slow
def test_the_first_lesson_prints_what_it_answers(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs/char_rnn_hello.yaml", "trainer.progress_bar=false"]) == 0
    assert "predicted ohlol" in capsys.readouterr().out.splitlines()
