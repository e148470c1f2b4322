"""Llama and its kin, each a random tiny model of `transformers`: logits, gradients, cache, fast decoding."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.testing import assert_close

from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.pretrained.readers import build_network, read_pretrained

SIZES = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
SIZES |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
MORE_YARN = {"beta_fast": 20.0, "beta_slow": 2.0, "mscale": 0.7, "mscale_all_dim": 0.5, "truncate": False}


def rope(**values: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 10_000.0, **values}}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("Llama", rope(**LLAMA3, original_max_position_embeddings=32)),
    "linear": ("Llama", rope(rope_type="linear", factor=4.0)),
    "yarn": ("Llama", rope(**YARN)),
    "yarn with everything": ("Llama", rope(**YARN, **MORE_YARN)),
    "yarn with its own factor": ("Llama", rope(**YARN, attention_factor=1.3)),
    "attention biases": ("Llama", {"attention_bias": True}),
    "feed-forward biases": ("Llama", {"mlp_bias": True}),
    "mistral": ("Mistral", {"sliding_window": 4}),
    "mistral without a window": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "qwen3 with biases": ("Qwen3", {"head_dim": 8, "attention_bias": True}),
    "smollm3": ("SmolLM3", {}),
    "smollm3, every second layer": ("SmolLM3", {"no_rope_layer_interval": 2}),
}


@pytest.mark.parametrize(("family", "settings"), CASES.values(), ids=CASES)
def test_a_family_gives_the_librarys_logits_and_gradients(
    family: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**(SIZES | settings))
    theirs = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    ours = build_network(read_pretrained(tmp_path))
    tokens = torch.randint(1, 40, (2, 20))  # the library computes no gradient for the padding, token 0
    logits, expected = ours(tokens), theirs(tokens).logits
    assert_close(logits, expected, rtol=0, atol=1e-5)
    logits.square().mean().backward()
    expected.square().mean().backward()
    layer, other = ours.trunk.layers[1], theirs.model.layers[1]
    for mine, reference in (
        (ours.embedding, theirs.model.embed_tokens),
        (layer.attention.query, other.self_attn.q_proj),
        (layer.feed_forward.down, other.mlp.down_proj),
    ):
        assert_close(mine.weight.grad, reference.weight.grad, rtol=0, atol=1e-5)
    with torch.inference_mode():
        for network in (ours, DecodingLM(ours)):
            cache = network.make_cache(20)
            parts = [network(tokens[:, :9], cache=cache)]
            parts += [network(tokens[:, i : i + 1], cache=cache) for i in range(9, 20)]
            assert_close(torch.cat(parts, dim=1), expected.detach(), rtol=0, atol=1e-5)
