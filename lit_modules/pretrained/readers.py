"""Other people's language models → our network: Hugging Face's folders and GGUF files."""

from pathlib import Path

import torch

from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.pretrained.gguf import read_gguf
from lit_modules.pretrained.huggingface import read_folder
from lit_modules.pretrained.source_fields import Pretrained


def read_pretrained(path: Path) -> Pretrained:
    """Reads a model from a file or folder, by what it is.

    Args:
        path: A GGUF file, or a folder with config.json and safetensors files.

    Raises:
        ValueError: it is neither, is cut off, or needs what isn't implemented; one line says which.
    """
    if path.is_dir():
        return read_folder(path)
    if path.is_file():
        return read_gguf(path)
    raise ValueError(f"{path} doesn't exist; expected a GGUF file or a folder with config.json")


def build_network(pretrained: Pretrained, *, dtype: torch.dtype = torch.float32) -> TransformerLM:
    """The network with the model's weights, in evaluation mode.

    Args:
        pretrained: From `read_pretrained`.
        dtype: Of the weights.
    """
    with torch.device("meta"):  # no memory and no time for weights that are replaced at once
        network = TransformerLM(
            pretrained.config, vocab_size=pretrained.vocab_size, context_length=pretrained.context_length
        )
    weights = {name: tensor.to(dtype) for name, tensor in pretrained.state_dict.items()}
    network.load_state_dict(weights, assign=True)
    if pretrained.config.tie_embeddings:
        network.head.weight = network.embedding.weight
    return network.eval()
