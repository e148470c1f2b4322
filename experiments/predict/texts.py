"""Classify texts, label their characters, or name their most probable next tokens.

Shape letters: T tokens, V vocabulary, K classes.
"""

from collections.abc import Callable, Iterator, Sequence

import torch

from datamodules.info import LabelledTextInfo, SequenceLabellingInfo
from datamodules.play_passages import spoken_words
from datamodules.tokenizers import tokenizer_from_dict
from experiments.errors import UserError
from experiments.predict.prediction import SHOWN, Prediction, choice, ranked
from experiments.sample.prompt_encoding import shorten
from experiments.training.build import Restored


def predict_texts(model: Restored, texts: Sequence[str]) -> Iterator[Prediction | Exception]:
    """Answer each text. A text that the model cannot read yields its error."""
    answer: Callable[[Restored, str], Prediction] = _next_tokens
    if isinstance(model.info, LabelledTextInfo):
        answer = _classify
    elif isinstance(model.info, SequenceLabellingInfo):
        answer = _label
    for text in texts:
        try:
            if not text:
                raise UserError("the text is empty")
            with torch.inference_mode():
                yield answer(model, text)
        except UserError as error:
            yield error
        except ValueError as error:
            yield UserError(f"{shorten(text)!r}: {error}")


def _classify(model: Restored, text: str) -> Prediction:
    """Classify a text; a model of plays reads it in the form of its training passages."""
    info = model.info
    read = spoken_words(text) if model.experiment.data.name == "play_passages" else text
    tokens = tokenizer_from_dict(info.tokenizer).encode(read)[: info.context_length]
    if not tokens:
        raise UserError(f"{shorten(text)!r} has no words")
    logits = model.module(torch.tensor([tokens]))  # (1, K)
    return choice(shorten(text), {"text": text}, ranked(logits[0], info.class_names))


def _label(model: Restored, text: str) -> Prediction:
    """Write the label of each character."""
    names = model.info.class_names
    if unknown := [c for c in dict.fromkeys(text) if c not in names]:
        raise UserError(f"{text!r}: the model does not know {' '.join(unknown)}; it knows {' '.join(names)}")
    logits = model.module(torch.tensor([[names.index(c) for c in text]]))  # (1, T, V)
    answer = "".join(names[i] for i in logits[0].argmax(-1).tolist())
    record = {"text": text, "answer": answer}
    return Prediction([answer], record, [record])


def _next_tokens(model: Restored, text: str) -> Prediction:
    """Rank the tokens that may follow a text."""
    info = model.info
    tokenizer = tokenizer_from_dict(info.tokenizer)
    tokens = tokenizer.encode(text)[-info.context_length :]
    logits = model.module(torch.tensor([tokens]))[0, -1]  # (V,)
    best = logits.double().softmax(0).topk(min(SHOWN, len(logits)))
    following = [
        (tokenizer.decode([i]), p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    shown = ", ".join(f"{token!r} {probability:.1%}" for token, probability in following)
    rows = [{"text": text, "token": token, "probability": p} for token, p in following]
    record = {"text": text, "next": [{"token": token, "probability": p} for token, p in following]}
    return Prediction([f"{shorten(text)} → {shown}"], record, rows)
