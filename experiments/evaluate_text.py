"""Scores any text with a language model: perplexity and bits per byte, each token counted once."""

import math
from array import array
from pathlib import Path

from experiments.errors import UserError
from experiments.language_models.opening import LoadedModel


def evaluate_text(model: LoadedModel, path: str | Path, *, stride: int | None = None) -> dict[str, float]:
    """How well a model predicts a text.

    The text is read through a window of the model's context that moves on by `stride` tokens; each token
    but the first, which nothing precedes, is predicted once (`token_losses`).
    A recurrent model reads the text from start to end and has no stride.

    Args:
        model: From `experiments.language_models.opening`.
        path: A UTF-8 file, or a folder, all of whose files are read in the order of their paths.
        stride: Half the context by default.

    Returns:
        `loss` in nats a token, `perplexity` of a token, `bits_per_byte` of the text, which compares
        between tokenizers, and how many `tokens` and `bytes` were predicted.

    Raises:
        UserError: The text can't be read, has characters that the model doesn't know, or nothing to predict;
            the stride is none that the model can take.
    """
    import torch

    from lit_modules.generation.text_scoring import token_losses

    context = model.context_length
    if context is None and stride is not None:
        raise UserError(f"--stride {stride}: {model.name} reads a text from start to end; leave it out")
    if context is not None and stride is not None and not 1 <= stride <= context:
        raise UserError(
            f"--stride {stride}: allowed is 1 … {context}, which is as far as {model.name} looks back"
        )
    ids = encode_file(model, path)
    if len(ids) < 2:
        raise UserError(f"{path} has {len(ids)} token(s): there is nothing to predict")
    total = 0.0
    tokens = torch.tensor(ids, dtype=torch.long)
    for losses in token_losses(model.network, tokens, stride=stride or max(1, (context or 0) // 2)):
        total += float(losses.double().sum())
    count = len(ids) - 1
    bytes_ = sum(len(model.tokenizer.token_bytes(id)) for id in ids[1:])
    loss = total / count
    return {
        "loss": loss,
        "perplexity": math.exp(loss) if loss < 700 else math.inf,
        "bits_per_byte": total / (math.log(2) * bytes_),
        "tokens": float(count),
        "bytes": float(bytes_),
    }


def encode_file(model: LoadedModel, path: str | Path) -> "array[int]":
    """A text's ids, encoded as it is read.

    Raises:
        UserError: It can't be read, or has characters that the model doesn't know.
    """
    from datamodules.text.text_source import TextFiles

    ids = array("l")
    try:
        for piece in model.tokenizer.encode_chunks(TextFiles.under(Path(path)).chunks()):
            ids.extend(piece)
    except ValueError as error:
        raise UserError(f"--text {path}: {error}") from error
    return ids
