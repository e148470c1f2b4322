"""Tiny language models with random weights, as Hugging Face's library builds and stores them."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

LLAMA = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 48,
    "rms_norm_eps": 2**-13,  # exact in the fp32 of a GGUF file
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
GPT2 = {"vocab_size": 40, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4, "eos_token_id": 3}
GPT2 |= {"bos_token_id": 3}


def spread(model: PreTrainedModel) -> PreTrainedModel:
    """Weights of every kind far from where they start, so that none can be left out unnoticed."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(number)
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture
def make_llama() -> Callable[..., PreTrainedModel]:
    """Makes a Llama, or a model of one of its kin."""

    def make(family: str = "Llama", **settings: Any) -> PreTrainedModel:
        config = getattr(transformers, f"{family}Config")(**(LLAMA | settings))
        return spread(getattr(transformers, f"{family}ForCausalLM")(config))

    return make


@pytest.fixture
def make_gpt2() -> Callable[..., PreTrainedModel]:
    def make(**settings: Any) -> PreTrainedModel:
        return spread(GPT2LMHeadModel(GPT2Config(**(GPT2 | settings))))

    return make


@pytest.fixture
def in_full_float64() -> Callable[[PreTrainedModel], PreTrainedModel]:
    """Makes a Llama of the library compute in fp64 what it takes in fp32 whatever its type: norms, angles."""

    def norm(module: LlamaRMSNorm, x: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)

    def angles(module: LlamaRotaryEmbedding, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        exponents = torch.arange(len(module.inv_freq), dtype=torch.float64) / len(module.inv_freq)
        angle = positions[..., None] * module.config.rope_parameters["rope_theta"] ** -exponents
        return angle.cos().repeat(1, 1, 2), angle.sin().repeat(1, 1, 2)

    def widen(model: PreTrainedModel) -> PreTrainedModel:
        for module in model.double().modules():
            if isinstance(module, LlamaRMSNorm):
                module.forward = partial(norm, module)
            elif isinstance(module, LlamaRotaryEmbedding):
                module.forward = partial(
                    lambda module, x, position_ids: angles(module, x, position_ids), module
                )
        return model

    return widen


@pytest.fixture
def library_reads_gguf(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], PreTrainedModel]:
    """What the library makes of a GGUF file; its own `from_pretrained` would need one more package."""
    monkeypatch.setattr(
        gguf, "GGUFReader", cache(gguf.GGUFReader)
    )  # it reads a file twice, which takes seconds

    def read(path: Path) -> PreTrainedModel:
        settings = {k: v for k, v in load_gguf_checkpoint(path)["config"].items() if v is not None}
        model = LlamaForCausalLM(LlamaConfig(**settings))
        tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
        absent = model.load_state_dict(tensors, strict=False).missing_keys
        assert absent == (["lm_head.weight"] if model.config.tie_word_embeddings else [])
        return model.eval()

    return read


@pytest.fixture
def write_gguf() -> Callable[..., None]:
    """Writes a Llama as llama.cpp's converter does: other names, adjacent pairs, perhaps quantised."""

    def permute(weight: np.ndarray, heads: int) -> np.ndarray:
        halves = weight.reshape(heads, 2, -1, weight.shape[1])  # (heads, half, pair, inputs)
        return halves.swapaxes(1, 2).reshape(weight.shape)

    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "input_layernorm": "attn_norm"}
    names |= {"post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "model.layers": "blk", "model.embed_tokens": "token_embd"}
    names |= {"model.norm": "output_norm", "lm_head": "output"}

    def write(
        model: PreTrainedModel, path: Path, *, kind: str = "F32", extra: dict[str, Any] | None = None
    ) -> None:
        config = model.config
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_block_count(config.num_hidden_layers)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)
        writer.add_eos_token_id(7)
        writer.add_token_list([f"token {i}" for i in range(config.vocab_size)])
        for key, value in (extra or {}).items():
            (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
        quantisation = gguf.GGMLQuantizationType[kind]
        for theirs, parameter in model.named_parameters():
            name, array = theirs, parameter.detach().numpy()
            for old, new in names.items():
                name = name.replace(old, new)
            if name.endswith(("attn_q.weight", "attn_k.weight")):
                heads = config.num_attention_heads if "attn_q" in name else config.num_key_value_heads
                array = permute(array, heads)
            if array.ndim == 2 and kind != "F32":
                writer.add_tensor(name, gguf.quants.quantize(array, quantisation), raw_dtype=quantisation)
            else:
                writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return write
