"""Every published config: its head comment, and a dry run on its real data."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from experiments.config.check import load_config
from experiments.config.help import summary
from experiments.launch import main
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.pretrained.readers import read_pretrained

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
PRESETS = sorted((REPOSITORY / "configs" / "presets").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_says_what_it_shows_costs_and_reaches(path: Path) -> None:
    comment = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    for word in ("Shows:", "Costs:", "Reaches:", f"python -m experiments.run configs/{path.name}"):
        assert word in comment
    assert 10 < len(summary(path)) < 140


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_config_builds_and_runs_a_batch_of_each_stage(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)  # data sets are fetched into its data folder once
    before = set(REPOSITORY.glob("runs/**/*"))
    # A whole test batch of words takes the search for pronunciations minutes.
    smaller = ["data.eval_batch_size=8"] if path.stem.startswith("g2p") else []
    assert main([str(path), "--dry-run", *smaller]) == 0
    assert f"dry run of {path.stem}" in capsys.readouterr().out
    assert set(REPOSITORY.glob("runs/**/*")) == before


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_a_preset_merges_over_a_config(path: Path) -> None:
    base = "lm_char_tiny_shakespeare" if path.stem in ("gpt2", "llama", "smollm2_lora") else "mnist_cnn"
    merged = load_config(f"configs/{base}.yaml", path)
    assert merged.plain != load_config(f"configs/{base}.yaml").plain
    assert merged.name == base


def make_gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=32, n_layer=2, n_head=4))


def make_llama() -> PreTrainedModel:
    """With the hidden width that the preset takes by default: 8/3 of 32, up to a multiple of 32."""
    sizes = {"vocab_size": 11, "max_position_embeddings": 8, "hidden_size": 32, "intermediate_size": 96}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, rms_norm_eps=1e-5))


@pytest.mark.parametrize(("preset", "make"), [("gpt2", make_gpt2), ("llama", make_llama)])
def test_the_architecture_presets_are_what_they_are_called(
    preset: str, make: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    """The library's weights, in the network that the preset describes, give the library's logits."""
    torch.manual_seed(0)
    theirs = make().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    theirs.save_pretrained(tmp_path)
    sizes = ["model.depth=2", "model.width=32", "model.num_heads=4"]
    described = load_config("lm_char_tiny_shakespeare", f"configs/presets/{preset}.yaml", *sizes)
    ours = TransformerLM(described.model.config, vocab_size=11, context_length=8).eval()
    ours.load_state_dict(read_pretrained(tmp_path).state_dict)
    tokens = torch.randint(11, (3, 8))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-5)
