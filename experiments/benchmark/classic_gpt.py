"""A small GPT in a plain loop, to compare the suite's language model with.

It follows nanoGPT's recipe for a laptop: GPT-2 with 4 layers, 4 heads and width 128, context length 64, batch
size 12, AdamW with weight decay, warm-up and cosine decay, all in fp32.

Shape letters: B batch, T tokens, V vocabulary, W width, H heads.
"""

import math
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTH, HEADS, WIDTH, CONTEXT, BATCH_SIZE, STEPS = 4, 4, 128, 64, 12, 2000
PEAK_RATE, LAST_RATE, WARMUP_STEPS, BETAS, WEIGHT_DECAY, CLIP = 1e-3, 1e-4, 100, (0.9, 0.99), 0.1, 1.0


class Block(nn.Module):
    """A block as in GPT-2 without biases: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH, bias=False)
        self.projections = nn.Linear(WIDTH, 3 * WIDTH, bias=False)  # To queries, keys and values.
        self.output = nn.Linear(WIDTH, WIDTH, bias=False)
        self.mlp_norm = nn.LayerNorm(WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, W) to (B, T, W)."""
        projected = self.projections(self.attention_norm(x)).unflatten(-1, (3, HEADS, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (B, H, T, W / H)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class SmallGPT(nn.Module):
    """A GPT with learned positions, `DEPTH` blocks and tied embeddings."""

    def __init__(self, vocab_size: int, context: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, WIDTH)
        self.positions = nn.Embedding(context, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.final_norm = nn.LayerNorm(WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        self.head.weight = self.embedding.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                branch_end = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * DEPTH) if branch_end else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T) to logits (B, T, V)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.blocks(self.embedding(tokens) + self.positions(places))
        return self.head(self.final_norm(x))


@dataclass(frozen=True)
class Trained:
    """The network, and the training time in seconds."""

    network: SmallGPT
    seconds: float


def train(
    tokens: Tensor, vocab_size: int, *, seed: int, steps: int = STEPS, context: int = CONTEXT
) -> Trained:
    """Train on random windows of a text.

    Args:
        tokens: Training tokens (N,).
        vocab_size: Size V of the vocabulary.
        seed: Seed of weights and windows.
        steps: Number of updates, over which the learning rate decays.
        context: Context length T.
    """
    torch.manual_seed(seed)
    network = SmallGPT(vocab_size, context).to(tokens.device)
    matrices = [p for p in network.parameters() if p.ndim == 2]
    gains = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=BETAS)
    start = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps)
        first = torch.randint(len(tokens) - context, (BATCH_SIZE,)).tolist()
        x = torch.stack([tokens[i : i + context] for i in first])
        y = torch.stack([tokens[i + 1 : i + 1 + context] for i in first])
        loss = F.cross_entropy(network(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
    return Trained(network, time.perf_counter() - start)


@torch.no_grad()
def text_loss(network: SmallGPT, tokens: Tensor, *, context: int = CONTEXT) -> float:
    """Return the mean cross-entropy in nats over a text (N,), in adjacent windows of `context` tokens."""
    windows = (len(tokens) - 1) // context
    x = tokens[: windows * context].view(windows, context)
    y = tokens[1 : windows * context + 1].view(windows, context)
    total = 0.0
    for some, following in zip(x.split(64), y.split(64), strict=True):
        total += float(F.cross_entropy(network(some).flatten(0, 1), following.flatten(), reduction="sum"))
    return total / y.numel()


def _rate(step: int, steps: int) -> float:
    if step < WARMUP_STEPS:
        return PEAK_RATE * (step + 1) / (WARMUP_STEPS + 1)
    progress = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return LAST_RATE + (PEAK_RATE - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
