"""The dashboard of a sequence-to-sequence model, as TensorBoard reads it, and what it counts."""

import io
import signal
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from torch import Tensor

import experiments
from experiments.callbacks import seq2seq_dashboard
from experiments.callbacks.seq2seq_dashboard import (
    GAP,
    Seq2SeqDashboard,
    Written,
    confusion_counts,
    most_confused,
    spelt,
    token_classes,
    worst,
)
from experiments.callbacks.tensorboard import TRAINING
from experiments.errors import Interrupted
from lit_modules.generation.special_tokens import BOS, EOS, PAD
from lit_modules.metrics.error_rates import TokenErrorRate, nearest_answers

INFO = SimpleNamespace(
    source_vocabulary=("<pad>", "<bos>", "<eos>", "a", "b", "c"),
    target_vocabulary=("<pad>", "<bos>", "<eos>", "AA0", "AA1", "K"),
    target_groups=(0, 1, 2, 3, 3, 4),
    error_names=("phoneme", "word", "without_stress"),
)


def rows(*sequences: list[int], width: int = 6) -> Tensor:
    return torch.tensor([[*s, *[PAD] * (width - len(s))] for s in sequences])


WRITTEN = Written(
    source=rows([3, 4, EOS], [5, EOS], [3, 3, 3, EOS]),
    tokens=rows([3, 5, EOS], [4, EOS], [5, 5, 5, EOS]),
    alternatives=torch.stack(
        [
            rows([BOS, 4, 5, EOS], []),
            rows([BOS, 5, EOS], [BOS, 4, 5, EOS]),
            rows([BOS, 3, EOS], []),
        ]
    ),
)


def counts(info: Any = INFO) -> tuple[Tensor, list[str]]:
    names, classes = token_classes(info)
    nearest = nearest_answers(WRITTEN.tokens, WRITTEN.alternatives, classes)
    return confusion_counts(WRITTEN, nearest, classes, len(names)), names


def test_tokens_of_a_group_are_one_class_named_by_what_they_share() -> None:
    names, classes = token_classes(INFO)
    assert names == ["<pad>", "<bos>", "<eos>", "AA", "K", GAP]
    assert classes.tolist() == [0, 1, 2, 3, 3, 4]
    plain = SimpleNamespace(**{**vars(INFO), "target_groups": ()})
    assert token_classes(plain)[0] == [*INFO.target_vocabulary, GAP]
    unlike = SimpleNamespace(target_vocabulary=("x", "y", "z"), target_groups=(0, 0, 1))
    assert token_classes(unlike)[0] == ["x/y", "z", GAP]


def test_edits_are_counted_by_hand() -> None:
    found, names = counts()
    edits = {(names[i], names[j]): int(found[i, j]) for i, j in found.nonzero().tolist()}
    # AA K as AA K; of K and of AA K, AA is as near to both and the first counts; AA as K K K.
    assert edits == {("AA", "AA"): 1, ("K", "K"): 1, ("K", "AA"): 1, ("AA", "K"): 1, (GAP, "K"): 2}


def test_a_random_matrix_has_as_many_edits_as_the_error_rate() -> None:
    generator = torch.Generator().manual_seed(0)

    def sequence() -> list[int]:
        return torch.randint(
            3, 6, (int(torch.randint(5, (), generator=generator)),), generator=generator
        ).tolist()

    written = Written(
        source=rows(*([3, EOS] for _ in range(50))),
        tokens=rows(*([*sequence(), EOS] for _ in range(50))),
        alternatives=torch.stack([rows([BOS, *sequence(), EOS], [BOS, *sequence(), EOS]) for _ in range(50)]),
    )
    for groups in (INFO.target_groups, ()):
        names, classes = token_classes(SimpleNamespace(**{**vars(INFO), "target_groups": groups}))
        nearest = nearest_answers(written.tokens, written.alternatives, classes)
        found = confusion_counts(written, nearest, classes, len(names))
        rate = TokenErrorRate(groups)
        rate.update(written.tokens, written.alternatives)
        assert found.sum() - found.diagonal().sum() == rate.errors
        assert found[:-1].sum() == rate.total
        ours = Counter(int(classes[t]) for row in written.tokens.tolist() for t in row[: row.index(EOS)])
        assert {i: int(n) for i, n in enumerate(found[:, :-1].sum(0)) if n} == ours


def test_lists_name_what_went_wrong_most_first() -> None:
    found, names = counts()
    lines = most_confused(found, names).splitlines()
    assert lines[2] == f"| {GAP} | K | 2 |  |"
    assert sorted(lines[3:]) == ["| AA | K | 1 | 2 |", "| K | AA | 1 | 2 |"]
    lines = worst(WRITTEN, INFO).splitlines()
    assert lines[0] == "| word | written | nearest right answer | edits |"
    # With stress the first word is wrong too; of one edit each, the shorter answer comes first.
    assert lines[2:] == ["| aaa | K K K | AA0 | 3 |", "| c | AA1 | K | 1 |", "| ab | AA0 K | AA1 K | 1 |"]


def test_sequences_are_spelt_as_one_reads_them() -> None:
    assert spelt(torch.tensor([3, 4, 5, EOS, 3]), INFO.source_vocabulary) == "abc"
    assert spelt(torch.tensor([3, 5, PAD]), INFO.target_vocabulary) == "AA0 K"
    assert spelt(torch.tensor([EOS]), INFO.target_vocabulary) == ""


def test_rank_zero_s_clock_decides_for_all_when_to_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing adds up over ranks: one that drew while another didn't would wait for it forever."""
    now = {"here": 0, "rank zero": 0}
    strategy = SimpleNamespace(broadcast=lambda _: now["rank zero"])
    trainer: Any = SimpleNamespace(
        strategy=strategy, sanity_checking=False, state=SimpleNamespace(fn="fit"), is_global_zero=False
    )
    drawn: list[int] = []
    dashboard = Seq2SeqDashboard()
    monkeypatch.setattr(seq2seq_dashboard, "parts_over", lambda *_: now["here"])
    monkeypatch.setattr(seq2seq_dashboard, "writer", lambda _: None)
    monkeypatch.setattr(dashboard, "_draw_undrawn", lambda *_: drawn.append(now["rank zero"]))
    monkeypatch.setattr(dashboard, "_collected", lambda: WRITTEN)
    module: Any = SimpleNamespace(info=INFO)
    dashboard.on_train_start(trainer, module)
    for here, rank_zero in ((1, 0), (1, 1), (3, 2)):
        now |= {"here": here, "rank zero": rank_zero}
        dashboard.on_validation_epoch_end(trainer, module)
    assert drawn == [1, 2]
    state = dashboard.state_dict()
    now |= {"here": 3, "rank zero": 3}  # a part ends, and the run is killed before the next validation
    resumed = Seq2SeqDashboard()
    resumed.load_state_dict(state)
    monkeypatch.setattr(resumed, "_draw_undrawn", lambda *_: drawn.append(now["rank zero"]))
    monkeypatch.setattr(resumed, "_collected", lambda: WRITTEN)
    resumed.on_train_start(trainer, module)
    resumed.on_validation_epoch_end(trainer, module)
    resumed.on_validation_epoch_end(trainer, module)
    assert drawn == [1, 2, 3]


# A real run -------------------------------------------------------------------------------------------------


def dictionary() -> str:
    """Words of one to five letters, each pronounced as it is spelt; some in two ways."""
    sounds = {"a": "AA1", "b": "B", "k": "K", "e": "EH0", "s": "S"}
    lines = []
    for number in range(5**4 // 3):
        word = "".join("abkes"[number * 3 // 5**place % 5] for place in range(1 + number % 5))
        spoken = " ".join(sounds[letter] for letter in word)
        lines += [f"{word} {spoken}", f"{word}(2) {spoken.replace('1', '2')} S"]
    return "\n".join({line.split()[0]: line for line in lines}.values())


SETTINGS: dict[str, Any] = {
    "name": "tiny_g2p",
    "model": {"name": "seq2seq", "depth": 2, "width": 16, "num_heads": 2},
    "data": {"name": "pronunciation", "batch_size": 16, "val_fraction": 0.2, "test_fraction": 0.2},
    "optimizer": {"name": "adamw", "lr": 0.01},
    "trainer": {
        "max_epochs": 3,
        "accelerator": "cpu",
        "precision": "32-true",
        "log_every_n_steps": 2,
        "dashboard": True,
        "progress_bar": False,
    },
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("words") / "my.dict"
    file.write_text(dictionary())
    return {**SETTINGS, "data": {**SETTINGS["data"], "path": str(file)}}


@pytest.fixture(scope="module")
def run(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return experiments.run({**settings, "run_dir": str(tmp_path_factory.mktemp("runs") / "g2p")})


def read(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def texts(events: EventAccumulator, tag: str) -> dict[int, str]:
    found = events.Tensors(f"{tag}/text_summary")
    return {event.step: event.tensor_proto.string_val[0].decode() for event in found}


def test_the_page_has_a_section_of_error_rates(run: Any) -> None:
    (event,) = read(run.run_dir).Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == [TRAINING, "sequence to sequence"]
    tags = read(run.run_dir).Tags()["scalars"]
    found = {chart.title: chart.multiline.tag[0].strip("^$") for chart in layout.category[1].chart}
    assert "word error rate, validation" in found
    assert set(found.values()) <= set(tags)


def test_every_epoch_and_the_test_are_drawn(run: Any) -> None:
    events = read(run.run_dir)
    steps = [event.step for event in events.Images("val/confusion_matrix")]
    assert len(steps) == 3
    assert set(events.Tags()["images"]) == {
        "val/confusion_matrix",
        "test/confusion_matrix",
        "attention/heads",
        *(f"attention/{number}" for number in (1, 2, 3, 4)),
    }
    for tag in events.Tags()["images"]:
        found = events.Images(tag)
        assert [event.step for event in found] == (steps if not tag.startswith("test") else steps[-1:])
        pictures = [Image.open(io.BytesIO(event.encoded_image_string)) for event in found]
        assert len({picture.tobytes() for picture in pictures}) == len(found)
        assert min(picture.size for picture in pictures) >= (200, 60)
    for tag in ("confusions", "worst"):
        assert list(texts(events, f"val/{tag}")) == steps
        (table,) = texts(events, f"test/{tag}").values()
        assert table.startswith("| ")


def test_drawing_leaves_the_run_as_it_is(run: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    plain = {**settings["trainer"], "dashboard": False}
    other = experiments.run({**settings, "trainer": plain, "run_dir": str(tmp_path / "plain")})
    for name, tensor in other.module.state_dict().items():
        assert torch.equal(tensor, run.module.state_dict()[name]), name


def test_the_last_picture_of_a_run_that_is_cut_after_its_last_validation_is_drawn(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early stopping ends it between two of the ten drawings."""
    stops = {"max_epochs": 100, "early_stopping_patience": 1, "monitor": "val/loss", "monitor_mode": "max"}
    settings = {**settings, "trainer": {**settings["trainer"], **stops}}
    experiments.run({**settings, "run_dir": str(tmp_path / "whole")})

    def cut(*_: Any) -> None:
        raise Interrupted(signal.SIGTERM, tmp_path / "cut", None)

    with monkeypatch.context() as patch:
        patch.setattr(Seq2SeqDashboard, "on_train_end", cut)
        with pytest.raises(Interrupted):
            experiments.run({**settings, "run_dir": str(tmp_path / "cut")})
    experiments.run({**settings, "run_dir": str(tmp_path / "cut"), "resume": "auto"})
    whole, cut = (read(tmp_path / name) for name in ("whole", "cut"))
    for tag in ("val/confusion_matrix", "attention/heads"):
        drawn = [[(e.step, e.encoded_image_string) for e in run.Images(tag)] for run in (whole, cut)]
        assert drawn[0] == drawn[1]
        assert len(drawn[0]) == 1
    assert texts(whole, "val/worst") == texts(cut, "val/worst")
