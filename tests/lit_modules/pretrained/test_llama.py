"""Random tiny models of `transformers`, one per family: logits, gradients, cache, fast decoding."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch.testing import assert_close

from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.pretrained.readers import build_network, read_pretrained

SIZES = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
SIZES |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT2 = {"vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 2}
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
    "gpt2": ("GPT2", {}),
    "gpt2 with its own head": ("GPT2", {"tie_word_embeddings": False, "n_inner": 40}),
}


def read_gradients(theirs: transformers.PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """Read the gradients of all parameters as if they were weights: under our names, in our layout."""
    (folder / "gradients").mkdir()
    shutil.copy(folder / "config.json", folder / "gradients")
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    save_file(gradients, folder / "gradients/model.safetensors")
    return read_pretrained(folder / "gradients").state_dict


@pytest.mark.parametrize(("family", "settings"), CASES.values(), ids=CASES)
def test_a_family_gives_the_librarys_logits_and_gradients(
    family: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**((GPT2 if family == "GPT2" else SIZES) | settings))
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    theirs = getattr(transformers, f"{family}{head}")(config).eval()
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
    gradients = read_gradients(theirs, tmp_path)
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, gradients[name], rtol=0, atol=1e-6)
    with torch.inference_mode():
        for network in (ours, DecodingLM(ours)):
            cache = network.make_cache(20)
            parts = [network(tokens[:, :9], cache=cache)]
            parts += [network(tokens[:, i : i + 1], cache=cache) for i in range(9, 20)]
            assert_close(torch.cat(parts, dim=1), expected.detach(), rtol=0, atol=1e-5)
