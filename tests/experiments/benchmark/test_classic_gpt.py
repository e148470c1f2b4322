import math

import pytest
import torch

from experiments.benchmark import classic_gpt


def test_it_is_gpt2s_network() -> None:
    """The same weights in transformers' GPT-2, whose biases are zero, give the same logits."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    ours = classic_gpt.SmallGPT(11, 16).double().eval()
    settings = transformers.GPT2Config(
        vocab_size=11,
        n_positions=16,
        n_embd=classic_gpt.WIDTH,
        n_layer=classic_gpt.DEPTH,
        n_head=classic_gpt.HEADS,
        activation_function="gelu",
    )
    theirs = transformers.GPT2LMHeadModel(settings).double().eval()
    weights = {name: torch.zeros_like(value) for name, value in theirs.state_dict().items()}
    weights["transformer.wte.weight"] = weights["lm_head.weight"] = ours.embedding.weight.data
    weights["transformer.wpe.weight"] = ours.positions.weight.data
    weights["transformer.ln_f.weight"] = ours.final_norm.weight.data
    for index, block in enumerate(ours.blocks):
        place = f"transformer.h.{index}."
        weights[f"{place}ln_1.weight"] = block.attention_norm.weight.data
        weights[f"{place}ln_2.weight"] = block.mlp_norm.weight.data
        weights[f"{place}attn.c_attn.weight"] = block.projections.weight.data.T
        weights[f"{place}attn.c_proj.weight"] = block.output.weight.data.T
        weights[f"{place}mlp.c_fc.weight"] = block.up.weight.data.T
        weights[f"{place}mlp.c_proj.weight"] = block.down.weight.data.T
    theirs.load_state_dict(weights)
    tokens = torch.randint(11, (2, 16))
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits)


def test_rate_climbs_falls_and_ends_where_it_should() -> None:
    rates = [classic_gpt._rate(step, 2000) for step in range(2001)]
    assert max(rates) == rates[classic_gpt.WARMUP_STEPS] == classic_gpt.PEAK_RATE
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert math.isclose(rates[2000], classic_gpt.LAST_RATE)


def test_it_learns_a_text_and_is_scored_on_every_character() -> None:
    tokens = torch.arange(400) % 5
    trained = classic_gpt.train(tokens, 5, seed=0, steps=25, context=8)
    assert trained.seconds > 0
    text = tokens[:30]  # 29 targets: three whole windows of 8, and a rest that is left out
    loss = classic_gpt.text_loss(trained.network, text, context=8)
    logits = trained.network(text[:24].view(3, 8)).detach()
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), text[1:25])
    assert math.isclose(loss, each.item(), rel_tol=1e-5)
    assert loss < 0.7 * math.log(5)
