"""Build a Llama of `transformers` with the weights of ours, for the decoding benchmark."""

import importlib.util
from typing import Any

import torch
from torch import Tensor

from lit_modules.pretrained.llama import HUGGINGFACE_NAMES
from lit_modules.pretrained.source_fields import Pretrained


def library_llama(pretrained: Pretrained, dtype: torch.dtype) -> Any:
    """Build the model of `transformers` in evaluation mode; None if `transformers` is not installed."""
    if importlib.util.find_spec("transformers") is None:
        return None
    from transformers import LlamaConfig, LlamaForCausalLM

    ours = pretrained.config
    settings = LlamaConfig(
        vocab_size=pretrained.vocab_size,
        hidden_size=ours.width,
        intermediate_size=pretrained.state_dict["trunk.layers.0.feed_forward.up.weight"].shape[0],
        num_hidden_layers=ours.depth,
        num_attention_heads=ours.num_heads,
        num_key_value_heads=ours.num_kv_heads,
        head_dim=ours.head_dim,
        max_position_embeddings=pretrained.context_length,
        rms_norm_eps=ours.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": ours.rotary_base},
        tie_word_embeddings=ours.tie_embeddings,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(settings)
    model.load_state_dict(
        {name: tensor.to(dtype) for name, tensor in _renamed(pretrained).items()}, assign=True
    )
    model.tie_weights()
    return model.eval()


def _renamed(pretrained: Pretrained) -> dict[str, Tensor]:
    config, renamed = pretrained.config, {}
    for name, tensor in pretrained.state_dict.items():
        module = name.removesuffix(".weight")
        number = None
        if module.startswith("trunk.layers."):
            _, _, number, module = module.split(".", 3)
        if module in ("attention.query", "attention.key") and config.rotary_layout == "adjacent_pairs":
            pairs = tensor.unflatten(0, (-1, (config.head_dim or 0) // 2, 2))  # (heads, D/2, 2, W)
            tensor = pairs.transpose(1, 2).flatten(0, 2)
        renamed[HUGGINGFACE_NAMES[module].format(number) + ".weight"] = tensor
    return renamed
