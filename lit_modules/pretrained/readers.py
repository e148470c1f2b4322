"""Read pretrained language models from Hugging Face folders and GGUF files."""

from pathlib import Path

import torch

from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.pretrained.gguf import read_gguf
from lit_modules.pretrained.huggingface import read_folder
from lit_modules.pretrained.source_fields import Pretrained


def read_pretrained(path: Path) -> Pretrained:
    """Read a model from a GGUF file or a Hugging Face folder.

    Raises:
        ValueError: The path is neither; a file is truncated; the model needs an unsupported feature.
    """
    if path.is_dir():
        return read_folder(path)
    if path.is_file():
        return read_gguf(path)
    raise ValueError(f"{path} doesn't exist; expected a GGUF file or a folder with config.json")


def build_network(pretrained: Pretrained, *, dtype: torch.dtype = torch.float32) -> TransformerLM:
    """Build the network with the weights of the model, in evaluation mode.

    Args:
        pretrained: From `read_pretrained`.
        dtype: Type of the weights.
    """
    with torch.device("meta"):  # no memory or time for initial weights, which are replaced
        network = TransformerLM(
            pretrained.config, vocab_size=pretrained.vocab_size, context_length=pretrained.context_length
        )
    weights = {name: tensor.to(dtype) for name, tensor in pretrained.state_dict.items()}
    network.load_state_dict(weights, assign=True)
    if pretrained.config.tie_embeddings:
        network.head.weight = network.embedding.weight
    return network.eval()
