"""A run's confusion matrix is written, read, and added up over runs."""

from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix, recall_score

from experiments.training.confusion import FILE, Confusion, pooled, read_confusion

NAMES = ("comedy", "history, of kings", "tragedy")


def table(targets: np.ndarray, predicted: np.ndarray) -> Confusion:
    counts = confusion_matrix(targets, predicted, labels=range(3))
    return Confusion(class_names=NAMES, counts=tuple(map(tuple, counts.tolist())))


def test_runs_add_up_to_the_matrix_of_all_their_samples(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    targets, predicted = generator.integers(3, size=(2, 90))
    folders = [tmp_path / str(fold) for fold in range(3)]
    for fold, folder in enumerate(folders):
        folder.mkdir()
        part = slice(30 * fold, 30 * fold + 30)
        table(targets[part], predicted[part]).write(folder)
        assert read_confusion(folder) == table(targets[part], predicted[part])
    whole = pooled(folders)
    assert whole == table(targets, predicted)
    rows = whole.markdown().splitlines()
    recall = recall_score(targets, predicted, average=None)
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[2:]] == list(NAMES)
    assert [row.split(" | ")[-1].removesuffix(" |") for row in rows[2:]] == [
        f"{100 * r:.1f} %" for r in recall
    ]


def test_a_class_that_no_sample_has_was_neither_recognised_nor_missed() -> None:
    rows = Confusion(class_names=("a", "b"), counts=((1200, 300), (0, 0))).markdown().splitlines()
    assert rows[2:] == ["| a | 1,200 | 300 | 80.0 % |", "| b | 0 | 0 | – |"]


def test_what_is_missing_damaged_or_of_other_classes_is_not_added_up(tmp_path: Path) -> None:
    good, bad, other = (tmp_path / name for name in ("good", "bad", "other"))
    for folder in (good, bad, other):
        folder.mkdir()
    table(np.array([0, 1]), np.array([0, 2])).write(good)
    Confusion(class_names=("x", "y", "z"), counts=((0,) * 3,) * 3).write(other)
    assert pooled([good]) == read_confusion(good)
    assert pooled([]) is None
    assert pooled([good, bad]) is None
    assert pooled([good, other]) is None
    for damaged in ("", "true,a,b\na,1\nb,2,3\n", "true,a\na,many\n", "true,a,b\na,1,2\n"):
        (bad / FILE).write_text(damaged)
        assert read_confusion(bad) is None
