"""Draw the pictures of the demos that have one."""

import math
from itertools import permutations
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from experiments.demo.trials import reservoir_off_by_one, shares, shuffle_from_all_places
from experiments.studies.figures import save
from lit_modules import functional
from lit_modules.layers.attention import Attention
from lit_modules.layers.positional import RotaryPositions, SinusoidalPositions
from lit_modules.layers.scaled_dot_product import attention_weights


def draw(name: str, path: Path) -> None:
    """Write the picture of a piece; the caller's random state is put back."""
    figure = Figure(layout="constrained")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        PLOTS[name](figure)
    save(figure, path)


def _kl_divergence(figure: Figure) -> None:
    figure.set_size_inches(8, 3.5)
    p, q = torch.tensor([0.05, 0.1, 0.4, 0.3, 0.1, 0.05]), torch.tensor([0.25, 0.25, 0.2, 0.15, 0.1, 0.05])
    left, right = figure.subplots(1, 2)
    _bars(left, "123456", {"p": p.tolist(), "q": q.tolist()})
    left.set_title("two distributions", fontsize=10)
    _bars(
        right,
        "123456",
        {"p log(p / q)": (p * (p / q).log()).tolist(), "q log(q / p)": (q * (q / p).log()).tolist()},
    )
    forward, backward = functional.kl_divergence(p, q), functional.kl_divergence(q, p)
    right.set_title(f"terms of KL(p ‖ q) = {forward:.2f} and KL(q ‖ p) = {backward:.2f}", fontsize=10)
    right.axhline(0, color="black", linewidth=0.8)


def _focal_loss(figure: Figure) -> None:
    figure.set_size_inches(6, 4)
    axes = figure.subplots()
    p = torch.linspace(0.005, 0.995, 199)
    logits = torch.stack([p.log(), (1 - p).log()], dim=-1)
    for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
        losses = functional.focal_loss(
            logits, torch.zeros(199, dtype=torch.long), gamma=gamma, reduction="none"
        )
        axes.plot(p, losses, label=f"γ = {gamma:g}" + (", cross-entropy" if gamma == 0 else ""))
    axes.set(xlabel="probability of the true class", ylabel="loss", ylim=(0, 5), xlim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()


def _self_attention(figure: Figure) -> None:
    figure.set_size_inches(8, 4)
    query, key = 3 * torch.randn(1, 1, 8, 64) / 8**0.5, 3 * torch.randn(1, 1, 8, 64) / 8**0.5
    scales = {"scaled by 1/√D": None, "not scaled": 1.0}
    _maps(
        figure, {title: attention_weights(query, key, scale=scale)[0, 0] for title, scale in scales.items()}
    )


def _multi_head_attention(figure: Figure) -> None:
    figure.set_size_inches(8, 7)
    layer, x = Attention(16, num_heads=2), 3 * torch.randn(1, 8, 16)
    maps = {}
    for layer.is_causal in (False, True):
        for head, weights in enumerate(layer.weights(x)[0], start=1):
            maps[f"head {head}{', causal' if layer.is_causal else ''}"] = weights
    _maps(figure, maps)


def _sinusoidal_positions(figure: Figure) -> None:
    figure.set_size_inches(7, 4)
    axes = figure.subplots()
    image = axes.imshow(
        SinusoidalPositions(64)(torch.arange(64)).numpy(), cmap="RdBu", aspect="auto", vmin=-1, vmax=1
    )
    axes.set(xlabel="channel: sine and cosine in turn, longer waves to the right", ylabel="position")
    figure.colorbar(image)


def _rotary_positions(figure: Figure) -> None:
    figure.set_size_inches(10, 3)
    vector = torch.tensor([1.0, 0.0]).repeat(4).view(1, 1, 1, 8).expand(1, 1, 16, 8)
    rotation = RotaryPositions(8, base=100.0, layout="adjacent_pairs")(torch.arange(16))
    pairs = rotation(vector, order="BHTD").view(16, 4, 2)
    for pair, axes in enumerate(figure.subplots(1, 4, sharex=True, sharey=True)):
        for position in range(16):
            x, y = pairs[position, pair].tolist()
            axes.plot([0, x], [0, y], color="C0", alpha=0.15 + 0.85 * position / 15)
            if pair < 2 or position in (0, 15):  # elsewhere the numbers would overlap
                axes.annotate(str(position), (1.15 * x, 1.15 * y), ha="center", va="center", fontsize=7)
        axes.set(aspect="equal", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
        axes.set_title(f"pair {pair}: {100 ** (-pair / 4):.2f} rad per position", fontsize=9)


def _roc_auc(figure: Figure) -> None:
    figure.set_size_inches(5, 4.6)
    axes = figure.subplots()
    scores = torch.tensor([0.1, 0.4, 0.4, 0.4, 0.8, 0.4, 0.6, 0.2, 0.3, 0.7])
    labels = torch.tensor([0, 1, 0, 0, 1, 1, 1, 0, 0, 0])
    levels = [math.inf, *scores.unique().flip(0).tolist()]
    true = [float((scores[labels == 1] >= level).float().mean()) for level in levels]
    false = [float((scores[labels == 0] >= level).float().mean()) for level in levels]
    axes.fill_between(false, true, alpha=0.15)
    axes.plot(false, true, "o-", label=f"area {functional.roc_auc(scores, labels):.3f}")
    axes.plot([0, 1], [0, 1], "--", color="grey", label="chance")
    axes.annotate("ties: a slope", (0.37, 0.81), xytext=(0.5, 0.86), arrowprops={"arrowstyle": "->"})
    axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axes.legend(loc="lower right")


def _shuffle(figure: Figure) -> None:
    generator = torch.Generator().manual_seed(0)
    orders = ["".join(order) for order in permutations("abc")]
    ours = shares(lambda: ["".join(functional.fisher_yates_shuffle("abc", generator=generator))], orders)
    wrong = shares(lambda: [shuffle_from_all_places("abc", generator)], orders)
    _frequencies(figure, orders, {"Fisher–Yates": ours, "wrong: from all places": wrong}, 1 / 6)


def _reservoir(figure: Figure) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = shares(lambda: functional.reservoir_sample("abcdef", 2, generator=generator), "abcdef")
    wrong = shares(lambda: reservoir_off_by_one("abcdef", 2, generator), "abcdef")
    _frequencies(figure, "abcdef", {"algorithm R": ours, "wrong: off by one": wrong}, 1 / 3)


def _pi(figure: Figure) -> None:
    figure.set_size_inches(6, 4)
    axes = figure.subplots()
    sizes = [10 ** (power / 2) for power in range(4, 14)]
    generator = torch.Generator().manual_seed(0)
    found = [functional.monte_carlo_pi(round(n), generator=generator) for n in sizes]
    spread = [[e.value - e.low for e in found], [e.high - e.value for e in found]]
    axes.errorbar(
        sizes, [e.value for e in found], yerr=spread, fmt="o", capsize=4, label="estimate, 95 % interval"
    )
    axes.axhline(math.pi, color="black", linewidth=0.8, label="π")
    axes.set(xscale="log", xlabel="random points", ylabel="estimate")
    axes.grid(alpha=0.3)
    axes.legend()


def _square_root(figure: Figure) -> None:
    figure.set_size_inches(6, 4)
    axes = figure.subplots()
    roots = {"gradient descent": functional.sqrt_gradient_descent, "Newton": functional.sqrt_newton}
    for name, root in roots.items():
        errors = [abs(x - math.sqrt(2)) for x in root(2.0).iterates]
        axes.plot([max(error, 1e-16) for error in errors], "o-", label=name)
    axes.set(yscale="log", xlabel="step", ylabel="error of √2")
    axes.grid(alpha=0.3)
    axes.legend()


def _bars(axes: Axes, names: "list[str] | str", groups: dict[str, list[float]]) -> None:
    """Draw one group of bars for each name."""
    width = 0.8 / len(groups)
    for number, (label, values) in enumerate(groups.items()):
        places = [place + (number - (len(groups) - 1) / 2) * width for place in range(len(names))]
        axes.bar(places, values, width, label=label)
    axes.set_xticks(range(len(names)), list(names))
    axes.legend()


def _frequencies(
    figure: Figure, names: "list[str] | str", groups: dict[str, list[float]], expected: float
) -> None:
    figure.set_size_inches(7, 4)
    axes = figure.subplots()
    _bars(axes, names, groups)
    axes.axhline(expected, color="black", linewidth=0.8, linestyle="--")
    axes.set(ylabel="share", ylim=(0, 1.35 * max(map(max, groups.values()))))


def _maps(figure: Figure, maps: dict[str, Tensor]) -> None:
    """Draw attention maps, two in a row, with one colour scale."""
    grid = figure.subplots(len(maps) // 2, 2, squeeze=False)
    for axes, (title, weights) in zip(grid.flat, maps.items(), strict=True):
        image = axes.imshow(weights.numpy(), cmap="viridis", vmin=0, vmax=1)
        axes.set(title=title, xlabel="key", ylabel="query")
    figure.colorbar(image, ax=grid, label="weight")


PLOTS = {
    "kl_divergence": _kl_divergence,
    "focal_loss": _focal_loss,
    "self_attention": _self_attention,
    "multi_head_attention": _multi_head_attention,
    "sinusoidal_positions": _sinusoidal_positions,
    "rotary_positions": _rotary_positions,
    "roc_auc": _roc_auc,
    "shuffle": _shuffle,
    "reservoir": _reservoir,
    "pi": _pi,
    "square_root": _square_root,
}
"""What draws the picture of a piece, by its name."""
