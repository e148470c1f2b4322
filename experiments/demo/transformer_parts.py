"""Parts of a transformer.

Embeddings, feed-forward networks, layers and low-rank updates.
"""

from copy import deepcopy
from typing import cast

import torch
import torch.nn as nn
import torch.nn.functional as F

from experiments.demo.outcome import Outcome, Result, error_of, random
from lit_modules.layers.embedding import embed
from lit_modules.layers.feed_forward import FeedForward, SwiGLU
from lit_modules.layers.lora import LoRALinear, apply_lora, load_lora_state_dict, lora_state_dict
from lit_modules.layers.positional import SinusoidalPositions
from lit_modules.networks.transformer_conversion import decoder_layer_from_torch, encoder_layer_from_torch


def embedding() -> Outcome:
    """Look up one vector for each token.

    Formula: row t of E, which is onehot(t) E; with sinusoidal positions √W · E_t + PE
    Source: Bengio et al. 2003, "A neural probabilistic language model"; Vaswani et al. 2017, section 3.4
    Mistake: Forgetting √W, so that positions dominate small embeddings.
    Code: lit_modules/layers/embedding.py
    """
    tokens, places, table = torch.tensor([[2, 0, 2]]), torch.arange(3), nn.Embedding(5, 4).double()
    waves, onehot = SinusoidalPositions(4), F.one_hot(tokens, 5).double()
    added = waves(places, dtype=torch.float64)
    looked_up = embed(tokens, places, embedding=table)
    (slope,) = torch.autograd.grad(looked_up.sum(), table.weight)
    return Outcome(
        inputs={"tokens": tokens, "E": table.weight},
        results=[
            Result("embed(tokens)", looked_up, "onehot E", onehot @ table.weight),
            Result("∂/∂E: how often a token occurs", slope[:, 0], "onehot", onehot.sum((0, 1))),
            Result(
                "with positions",
                embed(tokens, places, embedding=table, added=waves),
                "onehot √W E + PE",
                onehot @ table.weight * 2 + added,
                wrong=("no √W", onehot @ table.weight + added),
            ),
        ],
    )


def feed_forward() -> Outcome:
    """Apply the same two-layer network to each token.

    Formula: W_2 gelu(W_1 x); SwiGLU: W_3 (silu(W_1 x) ⊙ W_2 x)
    Source: Vaswani et al. 2017, eq. 2; Shazeer 2020, "GLU variants improve transformer", eq. 6
    Mistake: Taking the tanh approximation of GELU for the exact one; exchanging gate and up projection.
    Code: lit_modules/layers/feed_forward.py
    """
    x, plain = 3 * random(2, 4), FeedForward(4, 8, implementation="by_hand").double()
    gated = SwiGLU(4, 8, implementation="by_hand").double()
    hidden, gate, up = plain.up(x), gated.gate(x), gated.up(x)
    return Outcome(
        inputs={"x": x},
        results=[
            Result(
                "FeedForward(x)",
                plain(x),
                "F.gelu",
                plain.down(F.gelu(hidden)),
                wrong=("tanh", plain.down(F.gelu(hidden, approximate="tanh"))),
            ),
            Result(
                "SwiGLU(x)",
                gated(x),
                "F.silu",
                gated.down(F.silu(gate) * up),
                wrong=("gate ↔ up", gated.down(F.silu(up) * gate)),
            ),
        ],
    )


def encoder_layer() -> Outcome:
    """Combine self-attention and a feed-forward network by residual connections and norms.

    Formula: x ← norm(x + attention(x)), x ← norm(x + feed_forward(x)) (post-norm)
    Source: Vaswani et al. 2017, "Attention is all you need", figure 1, left
    Mistake: Loading post-norm weights into a pre-norm layer, x + f(norm(x)): all shapes fit.
    Code: lit_modules/layers/transformer_layer.py
    """
    theirs = nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True).double()
    ours, x = encoder_layer_from_torch(theirs), random(1, 3, 4)
    theirs.norm_first = True
    pre_norm = theirs(x)
    theirs.norm_first = False
    return Outcome(
        inputs={"x": x},
        results=[
            Result("layer(x)", ours(x), "nn.TransformerEncoderLayer", theirs(x), wrong=("pre-norm", pre_norm))
        ],
    )


def decoder_layer() -> Outcome:
    """Let the target read itself, then the source.

    Formula: x ← norm(x + causal(x)), norm(x + cross(x, context)), norm(x + feed_forward(x))
    Source: Vaswani et al. 2017, "Attention is all you need", figure 1, right
    Mistake: No causal mask: training reads the answer, generation can't.
    Code: lit_modules/layers/transformer_layer.py
    """
    theirs = nn.TransformerDecoderLayer(4, 2, 8, dropout=0, batch_first=True).double()
    ours, x, context = decoder_layer_from_torch(theirs), random(1, 3, 4), random(1, 2, 4)
    causal = nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64)
    return Outcome(
        inputs={"x": x, "context": context},
        results=[
            Result(
                "layer(x, context)",
                ours(x, context),
                "nn.TransformerDecoderLayer",
                theirs(x, context, tgt_mask=causal, tgt_is_causal=True),
                wrong=("no mask", theirs(x, context)),
            )
        ],
    )


def lora() -> Outcome:
    """Adapt a frozen layer by a product of two thin matrices.

    Formula: y = W x + b + (α / r) B A x, with B = 0 at the start
    Source: Hu et al. 2022, "LoRA: low-rank adaptation of large language models", section 4.1
    Mistake: B A instead of W + (α / r) B A; the merged weight passed as the bias.
    Code: lit_modules/layers/lora.py
    """
    x, base = random(2, 4), nn.Linear(4, 3).double()
    model, copy = nn.Sequential(base).eval(), nn.Sequential(deepcopy(base)).eval()
    for module in (model, copy):
        apply_lora(module, ["0"], rank=2, alpha=4)
    start, layer = model(x), cast(LoRALinear, model[0])
    nn.init.normal_(layer.lora_b)
    load_lora_state_dict(copy, lora_state_dict(model))
    separate, update = layer(x), layer.lora_b @ layer.lora_a
    layer.merge()
    full = F.linear(x, base.weight + 2 * update, base.bias)
    return Outcome(
        inputs={"x": x, "rank r": 2, "α": 4},
        results=[
            Result("at the start", start, "nn.Linear", base(x)),
            Result("after training", separate, "F.linear", full, wrong=("B A x", F.linear(x, update))),
            Result("A and B loaded into a copy", copy(x), "F.linear", full),
            Result(
                "merged",
                layer(x),
                "F.linear",
                full,
                wrong=("as the bias", error_of(lambda: F.linear(x, base.weight, layer.weight))),
            ),
        ],
    )
