"""Adapters in PEFT's format: names, and rows that a GGUF file has in another order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from lit_modules.configs.adapter import LoRAConfig
from lit_modules.layers.lora import apply_lora
from lit_modules.pretrained.peft_format import add_adapter, huggingface_names, read_adapter, write_adapter
from lit_modules.pretrained.readers import build_network, read_pretrained

Make = Callable[..., PreTrainedModel]
TOKENS = torch.arange(12)[None]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is dep:FutureWarning")  # PEFT reads it
@pytest.mark.parametrize("source", ["folder", "gguf"])
def test_an_adapter_has_the_logits_that_peft_gives_it(
    make_llama: Make, write_gguf: Callable[..., None], source: str, tmp_path: Path
) -> None:
    """A GGUF file has the rows of queries and keys in adjacent pairs; the adapter of one fits the other."""
    theirs = make_llama(tie_word_embeddings=False)
    if source == "gguf":
        write_gguf(theirs, tmp_path / "base")
    else:
        theirs.save_pretrained(tmp_path / "base")
    config = LoRAConfig(rank=3, alpha=5.0, base_sha256="0" * 64)

    def network() -> Any:
        return build_network(read_pretrained(tmp_path / "base"))

    ours = network()
    targets = ["*.query", "*.key", "*.value", "*.output", "*.gate", "head"]
    apply_lora(ours, targets, rank=config.rank, alpha=config.alpha)
    for name, parameter in ours.named_parameters():
        if name.endswith("lora_b"):
            nn.init.normal_(parameter, std=0.1)
    names = huggingface_names(len(ours.trunk.layers))
    write_adapter(tmp_path / "adapter", ours, config, base="base", names=names)
    adapter = read_adapter(tmp_path / "adapter")
    assert (adapter.base, adapter.base_sha256, adapter.rank, adapter.alpha) == ("base", "0" * 64, 3, 5.0)
    again = network()
    add_adapter(again, adapter)
    with torch.inference_mode():
        expected = ours(TOKENS)
        torch.testing.assert_close(again(TOKENS), expected)
        assert (network()(TOKENS) - expected).abs().max() > 0.01
        peft = PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
        torch.testing.assert_close(peft(TOKENS).logits, expected, rtol=0, atol=1e-5)
