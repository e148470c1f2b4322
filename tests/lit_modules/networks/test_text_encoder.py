from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.configs.optim import MuonConfig
from lit_modules.configs.text_classifier import TextClassifierConfig
from lit_modules.layers.positional import LearnedPositions, SinusoidalPositions
from lit_modules.networks.text_encoder import TextEncoder
from lit_modules.networks.transformer_conversion import encoder_from_torch
from lit_modules.optim.optimizers import build_optimizer

CONFIG = TextClassifierConfig(
    depth=2,
    width=8,
    num_heads=2,
    feed_forward_width=12,
    feed_forward="gelu",
    position="none",
    rotary_base=100.0,
    linear_std=None,
    embedding_std=1.0,
)
ROWS = [[3, 1, 4, 1, 5], [9], [2, 6, 5]]
TOKENS = torch.tensor([row + [-1] * (5 - len(row)) for row in ROWS])


def build(**values) -> TextEncoder:
    torch.manual_seed(0)
    network = TextEncoder(replace(CONFIG, **values), vocab_size=10, context_length=9, num_classes=3)
    return network.double().eval()


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pooling", ["mean", "cls", "attention"])
@pytest.mark.parametrize("position", ["learned", "sinusoidal", "none", "rotary"])
def test_a_text_in_a_padded_batch_is_the_text_alone(position: str, pooling: str):
    network = build(position=position, pooling=pooling)
    logits = network(TOKENS)
    wider = F.pad(TOKENS, (0, 4), value=-1)
    close(network(wider), logits)
    for number, row in enumerate(ROWS):
        close(network(torch.tensor([row])), logits[[number]])
    reordered = network(torch.tensor([[3, 4, 1, 1, 5]]))
    assert torch.allclose(reordered, logits[[0]]) == (position == "none")


def test_the_classifier_is_pytorchs_with_the_same_weights():
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True, activation="gelu")
    encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    embedding, places, head = nn.Embedding(10, 8), nn.Embedding(9, 8), nn.Linear(8, 3)
    theirs = nn.ModuleList([encoder, embedding, places, head]).double().eval()

    network = build(position="learned")
    network.trunk.encoder = encoder_from_torch(encoder)
    for ours, own in ((network.embedding, embedding), (network.positions.table, places)):
        ours.load_state_dict(own.state_dict())
    network.head.load_state_dict(head.state_dict())
    assert theirs is not None
    with torch.no_grad():
        is_padding = TOKENS == -1
        hidden = encoder(
            embedding(TOKENS.clamp(min=0)) + places(torch.arange(5)), src_key_padding_mask=is_padding
        )
        pooled = torch.stack([hidden[i, : len(row)].mean(0) for i, row in enumerate(ROWS)])
        close(network.features(TOKENS), pooled)
        close(network(TOKENS), head(pooled))


def test_hidden_tokens_are_as_if_they_were_not_there_and_only_in_training():
    network = build(token_dropout=0.5)
    with torch.no_grad():
        torch.manual_seed(1)
        kept = torch.rand(1, 5) >= 0.5
        assert 0 < int(kept.sum()) < 5
        torch.manual_seed(1)
        trained = network.train()(TOKENS[:1])
        network.eval()
        close(trained, network(TOKENS[:1][kept][None]))
        close(network(TOKENS[:1]), build()(TOKENS[:1]))


def test_feature_dropout_acts_in_training_only():
    network = build(feature_dropout=0.5)
    close(network(TOKENS), network.head(network.features(TOKENS)))
    network.train()
    assert not torch.equal(network(TOKENS), network(TOKENS))


def test_a_gradient_reaches_every_weight_and_no_row_of_an_absent_token():
    network = build(position="learned", pooling="attention").train()
    F.cross_entropy(network(TOKENS), torch.tensor([0, 1, 2])).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in idle if not name.endswith("key.bias")] == []
    used = network.embedding.weight.grad.abs().sum(1) > 0
    assert used.tolist() == [token in {t for row in ROWS for t in row} for token in range(10)]
    assert not network.positions.table.weight.grad[5:].any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"position": "absolute"}, "position is 'absolute'"),
        ({"token_dropout": 1.0}, "token_dropout is 1.0"),
        ({"feature_dropout": -0.1}, "feature_dropout is -0.1"),
    ],
)
def test_refuses_what_cannot_be_built(values: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build(**values)


@pytest.mark.parametrize(
    ("position", "kind"),
    [
        ("learned", LearnedPositions),
        ("sinusoidal", SinusoidalPositions),
        ("none", type(None)),
        ("rotary", type(None)),
    ],
)
def test_positions(position: str, kind: type):
    network = build(position=position)
    assert isinstance(network.positions, kind)
    assert (network.trunk.encoder.rotary is not None) == (position == "rotary")


def test_every_value_reaches_the_network():
    network = build(
        depth=3,
        position="learned",
        pooling="attention",
        dropout=0.2,
        hidden_dropout=0.1,
        window=2,
        output_init="zero",
        embedding_std=3.0,
        token_dropout=0.3,
        feature_dropout=0.4,
    )
    layers = network.trunk.encoder.layers
    assert len(layers) == 3
    assert network.trunk.pooling == "attention"
    assert (network.dropout.p, layers[0].feed_forward.dropout.p, layers[0].attention.window) == (0.2, 0.1, 2)
    assert not layers[1].feed_forward.down.weight.any()
    assert network.trunk.pool.output.weight.any()  # or no gradient reaches the layers
    assert float(network.positions.table.weight.detach().std()) > 2
    assert (network.token_dropout, network.feature_dropout.p) == (0.3, 0.4)
    assert network.embedding.weight.shape == (10, 8)
    assert network.positions.table.weight.shape == (9, 8)
    assert network.head.weight.shape == (3, 8)


@pytest.mark.parametrize("pooling", ["cls", "attention"])
def test_muon_leaves_the_learned_token_and_the_head_alone(pooling: str):
    network = build(pooling=pooling, position="learned")
    names = {id(p): name for name, p in network.named_parameters()}
    groups = build_optimizer(network, MuonConfig()).param_groups
    muon = {names[id(p)] for group in groups if group["rule"] == "muon" for p in group["params"]}
    assert not {"head.weight", "trunk.seed.weight", "positions.table.weight", "embedding.weight"} & muon
    assert "trunk.encoder.layers.0.attention.query.weight" in muon
