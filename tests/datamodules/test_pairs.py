"""Pairs of texts: splits by source, several targets, words, and long texts."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from datamodules.configs.pairs import PairsConfig
from datamodules.loading.token_rows import EOS, SPECIAL
from datamodules.pairs import PairsDataModule

LINES = [f"{'abcdefghij'[i % 10]}{'klmno'[i // 10]}\tx{i} y{i % 3}" for i in range(50)]


def data(tmp_path: Path, lines: list[str], **values: Any) -> PairsDataModule:
    (tmp_path / "p.tsv").write_text("\n".join(lines))
    module = PairsDataModule(PairsConfig(path=str(tmp_path / "p.tsv"), **values))
    module.setup()
    return module


def texts(rows: Tensor, vocabulary: tuple[str, ...], between: str = "") -> list[str]:
    return [between.join(vocabulary[i] for i in row if i >= len(SPECIAL)) for row in rows.tolist()]


def test_no_source_is_in_two_splits(tmp_path: Path) -> None:
    module = data(tmp_path, [*LINES, *(f"{line}!" for line in LINES[:30]), LINES[0]])
    parts = {
        name: set(texts(module.split(name)[0], module.info.source_vocabulary))
        for name in ("train", "val", "test")
    }
    assert [len(part) for part in parts.values()] == [40, 5, 5]
    assert parts["train"] | parts["val"] | parts["test"] == {line.split("\t")[0] for line in LINES}
    other = data(tmp_path, LINES, split_seed=1)
    assert set(texts(other.split("val")[0], other.info.source_vocabulary)) != parts["val"]


def test_every_target_is_a_training_pair_and_an_alternative(tmp_path: Path) -> None:
    held_out = str(write(tmp_path / "held_out.tsv", ["ak\te"]))
    module = data(tmp_path, ["ab\tc", "ab\td", "ab\tc", *LINES], val_path=held_out, test_path=held_out)
    own = data(tmp_path, LINES, test_path=str(write(tmp_path / "t.tsv", ["ab\tc", "ab\td", "ak\te"])))
    sources, targets = module.split("train")
    pairs = list(
        zip(
            texts(sources, module.info.source_vocabulary),
            texts(targets, module.info.target_vocabulary),
            strict=True,
        )
    )
    assert len(pairs) == len(LINES) + 2
    assert {("ab", "c"), ("ab", "d")} < set(pairs)
    source, _, alternatives = own.split("test")
    assert texts(source, own.info.source_vocabulary) == ["ab", "ak"]
    assert texts(alternatives[0], own.info.target_vocabulary) == ["c", "d"]
    assert own.notes == ["1 of 2 sources of the test split are in training too"]
    assert (own.info.train_size, own.info.val_size, own.info.test_size) == (45, 5, 2)


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_tokens_are_characters_or_words(tmp_path: Path) -> None:
    module = data(tmp_path, LINES, target_tokens="words")
    assert module.info.target_words
    assert not module.info.source_words
    assert module.info.source_vocabulary == (*SPECIAL, *"abcdefghijklmno")
    assert module.info.target_vocabulary[-3:] == ("y0", "y1", "y2")
    assert (module.info.source_length, module.info.target_length) == (3, 4)
    assert sorted(texts(module.split("train")[1], module.info.target_vocabulary, " "))[0].startswith("x")
    assert (module.split("train")[0][:, 2] == EOS).all()


def test_long_pairs_are_left_out_with_a_note(tmp_path: Path) -> None:
    module = data(tmp_path, [*LINES, "a" * 20 + "\tb", "a\t" + "b" * 20], max_tokens=10)
    assert module.notes == [f"left out 2 pairs of {tmp_path / 'p.tsv'} with more than 10 tokens"]
    assert module.info.source_length == 3


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the val split of .* is empty; use more pairs"):
        data(tmp_path, LINES[:3])
    with pytest.raises(ValueError, match="leave no training data"):
        PairsConfig(path="p", val_fraction=0.5, test_fraction=0.5)


@pytest.mark.slow
def test_a_model_learns_pairs_of_words(tmp_path: Path, tiny: dict[str, Any]) -> None:
    import experiments
    from experiments.predict.__main__ import main

    colours, things = ["red", "blue", "green"], ["cat", "dog", "cow", "hen", "pig"]
    lines = [f"{c} {t}\t{t.upper()} {c.upper()}" for c in colours for t in things]
    path = write(tmp_path / "p.tsv", lines)
    tiny |= {"model": {"name": "seq2seq", "depth": 1, "width": 32, "num_heads": 2, "position": "learned"}}
    tiny |= {"data": {"name": "pairs", "path": str(path), "source_tokens": "words", "target_tokens": "words"}}
    tiny["data"] |= {"val_path": str(path), "test_path": str(path), "batch_size": 5}
    tiny |= {"optimizer": {"name": "adamw", "lr": 0.005}}
    tiny["trainer"] |= {"max_epochs": 90, "check_val_every_n_epoch": 30, "dashboard": True}
    result = experiments.run(tiny, "run_dir=run")
    assert result.metrics["test/sequence_error_rate"] < 0.1
    assert main(["run", "red hen"]) == 0


def test_each_source_is_tested_in_one_fold(tmp_path: Path) -> None:
    folds = [data(tmp_path, LINES, folds=4, fold=k) for k in range(4)]
    tested = [
        text for module in folds for text in texts(module.split("test")[0], module.info.source_vocabulary)
    ]
    assert sorted(tested) == sorted(line.split("\t")[0] for line in LINES)
    assert {module.info.val_size for module in folds} == {5}
    with pytest.raises(ValueError, match="50 sources are too few for 60 folds"):
        data(tmp_path, LINES, folds=60)
