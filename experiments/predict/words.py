"""Predict answers for words with a sequence-to-sequence model, for example their pronunciations.

Shape letters: B words, S source tokens.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence

from datamodules.info import SequencePairInfo
from datamodules.loading.token_rows import EOS, PAD, SPECIAL, encoder, padded_rows
from experiments.errors import UserError
from experiments.predict.prediction import Prediction
from experiments.training.build import Restored

N_BEST, BEAM_SIZE = 3, 5
_ALIKE = ("'\u2019\u02bc\uff07", "-\u2010\u2011")
"""Apostrophes and hyphens: a phone or a word processor types another one than a dictionary has."""


def predict_words(
    model: Restored, words: Sequence[str], *, n_best: int | None = None, beam_size: int | None = None
) -> Iterator[Prediction | Exception]:
    """Answer all words in one batch. A word that the model cannot read yields its error.

    Args:
        model: A restored sequence-to-sequence model.
        words: Words to answer.
        n_best: Answers per word; None for 3, or `beam_size` if that is less.
        beam_size: Hypotheses per word; None for 5, or `n_best` if that is more.

    Raises:
        UserError: A number is out of range.
    """
    if n_best is None:
        n_best = N_BEST if beam_size is None else max(1, min(N_BEST, beam_size))
    beam_size = max(BEAM_SIZE, n_best) if beam_size is None else beam_size
    if not 1 <= n_best <= beam_size:
        raise UserError(f"--n-best {n_best}, --beam-size {beam_size}: expected 1 ≤ n-best ≤ beam-size")
    info, penalty = model.info, model.experiment.model.config.length_penalty
    spelt = [_spelt(word, info) for word in words]
    rows = [row for row in spelt if isinstance(row, list)]
    answers: Iterator[tuple[list[list[int]], list[float]]] = iter(())
    if rows:
        found = model.module.search(padded_rows(rows), beam_size=beam_size, n_best=n_best)  # from (B, S)
        answers = zip(found.tokens.tolist(), found.scores.tolist(), strict=True)
    return (
        _prediction(word, *next(answers), info, penalty) if isinstance(row, list) else row
        for word, row in zip(words, spelt, strict=True)
    )


def _spelt(word: str, info: SequencePairInfo) -> list[int] | UserError:
    try:
        return spell(word, info.source_vocabulary, info.source_length, words=info.source_words)
    except UserError as error:
        return error


def spell(word: str, vocabulary: Sequence[str], longest: int, *, words: bool = False) -> list[int]:
    """Encode a text as tokens, with EOS at the end.

    For an unknown character, the other case and similar apostrophes and hyphens are tried; for an unknown
    word, the other case.

    `vocabulary` is the text of each token, special tokens first; `longest` counts EOS too. With `words`, the
    tokens are words between spaces.

    Raises:
        UserError: The text is empty or too long, or has unknown characters or words.
    """
    known = encoder(vocabulary)
    text = unicodedata.normalize("NFC", word)
    symbols = text.split() if words else list(text)
    tokens = [next((known[form] for form in _forms(c) if form in known), None) for c in symbols]
    unknown = dict.fromkeys(c for c, token in zip(symbols, tokens, strict=True) if token is None)
    if unknown and words:
        raise UserError(f"{word!r}: the model does not know the words {', '.join(unknown)}")
    if unknown:
        names = ", ".join(f"U+{ord(c):04X} {unicodedata.name(c, 'without a name')}" for c in unknown)
        raise UserError(f"{word!r}: the model does not know {names}; it knows {' '.join(known)}")
    if not 1 <= len(tokens) < longest:
        unit = "words" if words else "characters"
        raise UserError(f"{word!r} has {len(tokens)} {unit}; the model was trained on 1 to {longest - 1}")
    return [token for token in tokens if token is not None] + [EOS]


def _forms(character: str) -> tuple[str, ...]:
    """Return a character or word, and those that may stand for it."""
    alike = next((group for group in _ALIKE if character in group), "")
    return character, character.lower(), character.upper(), *alike


def _prediction(
    word: str,
    tokens: list[list[int]],
    scores: list[float],
    info: SequencePairInfo,
    penalty: float,
) -> Prediction:
    vocabulary = info.target_vocabulary
    words = info.target_words or any(len(name) > 1 for name in vocabulary[len(SPECIAL) :])
    between = " " if words else ""
    answers = []
    for row, score in zip(tokens, scores, strict=True):
        if score == -math.inf:
            continue
        length = sum(token != PAD for token in row)
        text = between.join(vocabulary[token] for token in row if token >= len(SPECIAL))
        text += "" if EOS in row else " …"  # Cut at the longest target of the training.
        probability = math.exp(score * length**penalty)
        answers.append({"text": text, "score": score, "probability": probability})
    width = max(len(str(answer["text"])) for answer in answers)
    lines = [
        f"{word if place == 0 else '':{len(word)}}  {answer['text']:{width}}  "
        f"{answer['score']:8.4f}  {answer['probability']:6.1%}"
        for place, answer in enumerate(answers)
    ]
    rows = [{"word": word, **answer} for answer in answers]
    return Prediction(lines, {"word": word, "answers": answers}, rows)
