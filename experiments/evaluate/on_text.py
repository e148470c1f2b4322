"""Score a text with a language model: perplexity and bits per byte, with each token counted once."""

import math
from array import array
from pathlib import Path

from experiments.errors import UserError
from experiments.language_models.loaded_model import LoadedModel


def evaluate_text(model: LoadedModel, path: str | Path, *, stride: int | None = None) -> dict[str, float]:
    """Measure how well a model predicts a text.

    The text is read through a window of the model's context length that moves by `stride` tokens. Each token
    but the first is predicted once (see `token_losses`). A recurrent model reads the text from start to end
    and has no stride.

    Args:
        model: An opened language model.
        path: A UTF-8 file, or a folder; all files in a folder are read, in the order of their paths.
        stride: Tokens between two windows; None for half the context.

    Returns:
        `loss` in nats per token, `perplexity` per token, `bits_per_byte`, which can be compared between
        tokenizers, and the numbers of `tokens` and `bytes` that were predicted.

    Raises:
        UserError: The text cannot be read, has unknown characters or less than two tokens, or the stride is
            out of range.
    """
    import torch

    from lit_modules.generation.text_scoring import token_losses

    context = model.context_length
    if context is None and stride is not None:
        raise UserError(f"--stride {stride}: {model.name} reads a text from start to end; leave --stride out")
    if context is not None and stride is not None and not 1 <= stride <= context:
        raise UserError(f"--stride {stride}: allowed is 1 … {context}, the context length of {model.name}")
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
    """Encode a text while reading it.

    Raises:
        UserError: The text cannot be read, or has characters that the vocabulary lacks.
    """
    from datamodules.text.text_source import TextFiles

    ids = array("l", model.tokenizer.start_ids)
    try:
        for piece in model.tokenizer.encode_chunks(TextFiles.under(Path(path)).chunks()):
            ids.extend(piece)
    except ValueError as error:
        raise UserError(f"--text {path}: {error}") from error
    return ids
