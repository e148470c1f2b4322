"""Error rates against counts made by hand and by loops."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchmetrics.text import WordErrorRate

from datamodules.info import SequencePairInfo
from lit_modules.generation.special_tokens import BOS, EOS, PAD
from lit_modules.metrics.error_rates import (
    ErrorRate,
    SequenceErrorRate,
    TokenErrorRate,
    content_lengths,
    error_rates,
)


def answers(*rows: list[list[int]], width: int = 8) -> Tensor:
    """(B, A, T) of each sequence's right answers."""
    most = max(len(row) for row in rows)
    whole = torch.full((len(rows), most, width), PAD)
    for i, row in enumerate(rows):
        for j, answer in enumerate(row):
            whole[i, j, : len(answer) + 2] = torch.tensor([BOS, *answer, EOS])
    return whole


def written(*rows: list[int], width: int = 8) -> Tensor:
    """(B, T') with an end and padding behind it."""
    return torch.tensor([[*row, EOS, *[PAD] * width][:width] for row in rows])


def rate(metric: ErrorRate, predicted: Tensor, alternatives: Tensor) -> float:
    metric.update(predicted, alternatives)
    return metric.compute().item()


def test_counts_made_by_hand() -> None:
    predicted = written([5, 6, 7], [5, 6], [8, 8, 8])
    alternatives = answers([[5, 6, 7]], [[5, 9, 6, 4]], [[3]])
    assert rate(TokenErrorRate(), predicted, alternatives) == pytest.approx((0 + 2 + 3) / (3 + 4 + 1))
    assert rate(SequenceErrorRate(), predicted, alternatives) == pytest.approx(2 / 3)


def test_the_nearest_answer_counts_and_its_length() -> None:
    alternatives = answers([[3, 4, 5, 6], [7, 8]])
    assert rate(TokenErrorRate(), written([7, 8]), alternatives) == 0
    assert rate(SequenceErrorRate(), written([7, 8]), alternatives) == 0
    assert rate(TokenErrorRate(), written([7, 9]), alternatives) == pytest.approx(1 / 2)
    assert rate(SequenceErrorRate(), written([7, 9]), alternatives) == 1
    # As far from both, so that the first counts.
    assert rate(TokenErrorRate(), written([7, 8, 9]), answers([[7, 8], [7, 8, 9, 9]])) == pytest.approx(1 / 2)
    assert rate(TokenErrorRate(), written([7, 8, 9]), answers([[7, 8, 9, 9], [7, 8]])) == pytest.approx(1 / 4)


def test_an_empty_answer_is_one_and_padding_is_none() -> None:
    metric = SequenceErrorRate()
    assert rate(metric, written([]), answers([[]], [[3, 4], []])[:1]) == 0
    assert rate(SequenceErrorRate(), written([]), answers([[3]], [[3], [4]])[:1]) == 1
    assert rate(TokenErrorRate(), written([]), answers([[3]], [[3], [4]])[:1]) == 1


@pytest.mark.parametrize("tail", [[PAD, PAD], [5, 6], [EOS, 6], [PAD, 6]])
@pytest.mark.parametrize("kind", [TokenErrorRate, SequenceErrorRate])
def test_what_follows_the_end_does_not_count(kind: type[ErrorRate], tail: list[int]) -> None:
    alternatives = answers([[5, 6]], [[5, 7, 8]])
    predicted = torch.tensor([[5, 6, EOS, *tail], [5, 7, 8, EOS, PAD]])
    assert rate(kind(), predicted, alternatives) == 0


def test_a_prediction_without_an_end_counts_whole() -> None:
    alternatives = answers([[5, 6]])
    assert rate(SequenceErrorRate(), torch.tensor([[5, 6]]), alternatives) == 0
    assert rate(SequenceErrorRate(), torch.tensor([[5, 6, 6]]), alternatives) == 1
    assert rate(TokenErrorRate(), torch.tensor([[5, 6, 6]]), alternatives) == pytest.approx(1 / 2)
    assert rate(TokenErrorRate(), torch.tensor([[5]]), alternatives) == pytest.approx(1 / 2)
    assert rate(TokenErrorRate(), torch.zeros(1, 0, dtype=torch.long), alternatives) == 1


def test_tokens_of_a_group_count_as_the_same() -> None:
    groups = [0, 1, 2, 3, 4, 4, 5]
    predicted, alternatives = written([3, 5, 6], [3, 3]), answers([[3, 4, 6]], [[4, 3]])
    assert rate(TokenErrorRate(), predicted, alternatives) == pytest.approx(2 / 5)
    assert rate(TokenErrorRate(groups), predicted, alternatives) == pytest.approx(1 / 5)
    assert rate(SequenceErrorRate(), predicted, alternatives) == 1
    assert rate(SequenceErrorRate(groups), predicted, alternatives) == pytest.approx(1 / 2)


def random_batch(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def sequence() -> list[int]:
        length = int(torch.randint(4, (), generator=generator))
        return torch.randint(3, 5, (length,), generator=generator).tolist()

    predicted = written(*(sequence() for _ in range(rows)))
    return predicted, answers(*([sequence() for _ in range(1 + i % 3)] for i in range(rows)))


@pytest.mark.parametrize("kind", [TokenErrorRate, SequenceErrorRate])
def test_however_batches_are_cut_the_rate_is_one_of_sums(kind: type[ErrorRate]) -> None:
    predicted, alternatives = random_batch(30)
    whole = kind()
    whole.update(predicted, alternatives)
    parts = [kind(), kind()]  # two processes, the second of which gets batches of other widths
    for start, stop in ((0, 11), (11, 12), (12, 30)):
        parts[start > 0].update(predicted[start:stop], alternatives[start:stop])
    for state in ("errors", "total"):
        assert getattr(whole, state) == getattr(parts[0], state) + getattr(parts[1], state)
        assert whole._reductions[state] is not None
    assert 0 < whole.compute() < 1.5


def test_whole_sequences_against_a_loop() -> None:
    predicted, alternatives = random_batch(50)
    wrong = 0
    for row, choices in zip(predicted.tolist(), alternatives.tolist(), strict=True):
        content = row[: row.index(EOS)]
        wrong += all(content != c[1 : c.index(EOS)] for c in choices if c[0] == BOS)
    assert 0 < wrong < 50
    assert rate(SequenceErrorRate(), predicted, alternatives) == pytest.approx(wrong / 50)


def test_edits_over_lengths_are_the_library_s_word_error_rate() -> None:
    predicted, alternatives = random_batch(50)
    oracle = WordErrorRate()
    for row, choices in zip(predicted.tolist(), alternatives.tolist(), strict=True):
        contents = (row[: row.index(EOS)], choices[0][1 : choices[0].index(EOS)])
        oracle.update(*([" ".join(str(token) for token in content)] for content in contents))
    found = rate(TokenErrorRate(), predicted, alternatives[:, :1])
    assert found == pytest.approx(oracle.compute().item())


def test_content_ends_before_its_end_or_padding() -> None:
    tokens = torch.tensor([[5, 6, EOS, 5], [5, PAD, 6, EOS], [EOS, 5, 5, 5], [5, 5, 5, 5]])
    assert content_lengths(tokens).tolist() == [2, 1, 0, 4]


def test_metrics_go_by_the_names_of_the_data() -> None:
    info = SequencePairInfo(
        source_vocabulary=(),
        target_vocabulary=(),
        source_length=1,
        target_length=2,
        error_names=("phoneme", "word", "without_stress"),
    )
    assert list(error_rates(info)) == ["phoneme_error_rate", "word_error_rate"]
    metrics = error_rates(replace(info, target_groups=(0, 1, 2, 3, 3)))
    assert list(metrics)[2:] == ["phoneme_error_rate_without_stress", "word_error_rate_without_stress"]
    assert rate(metrics["word_error_rate"], written([4]), answers([[3]])) == 1  # type: ignore[arg-type]
    assert rate(metrics["word_error_rate_without_stress"], written([4]), answers([[3]])) == 0  # type: ignore[arg-type]


def test_a_checkpoint_holds_nothing_of_them() -> None:
    assert not TokenErrorRate([0, 1, 2]).state_dict()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 8\) and \(1, 1, 8\)"):
        TokenErrorRate().update(written([3], [4]), answers([[3]]))
    with pytest.raises(ValueError, match="must have a correct answer"):
        TokenErrorRate().update(written([3]), torch.full((1, 2, 5), PAD))
