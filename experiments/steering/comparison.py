"""What the comparison of the ways to steer comes to: figures with intervals, and the table of them."""

import math
from collections.abc import Mapping, Sequence

from datamodules.prompts.prompt_sets import Prompt
from experiments.steering.bootstrap import Estimate, mean_interval, ratio_interval
from experiments.steering.methods import METHODS

RIVALS = ("mean", "router", "fine_router", "l2s_shuffled", "ridge")
"""What the learned network is held against, prompt by prompt."""


def compare(
    prompts: Sequence[Prompt],
    margins: Mapping[str, Sequence[float]],
    rights: Mapping[str, Sequence[float]],
) -> dict[str, Estimate]:
    """Every figure over all prompts, those in seen templates, and those in unseen ones.

    Args:
        prompts: That were asked.
        margins: Of each method, one for each prompt.
        rights: The same; NaN where a prompt's family has nothing to take its instantiation for.

    Returns:
        `SUBSET/METHOD/margin`, `SUBSET/METHOD/right`, `SUBSET/l2s_minus_RIVAL`, `SUBSET/gap_closed`.
    """
    subsets = {
        "all": list(range(len(prompts))),
        "seen": [i for i, prompt in enumerate(prompts) if prompt.seen],
        "unseen": [i for i, prompt in enumerate(prompts) if not prompt.seen],
    }
    found: dict[str, Estimate] = {}
    for subset, places in subsets.items():
        if not places:
            continue
        topics = [prompts[i].topic for i in places]
        own = {method: [values[i] for i in places] for method, values in margins.items()}
        for method in METHODS:
            found[f"{subset}/{method}/margin"] = mean_interval(own[method], topics)
            known = [i for i in places if not math.isnan(rights[method][i])]
            if known:
                found[f"{subset}/{method}/right"] = mean_interval(
                    [rights[method][i] for i in known], [prompts[i].topic for i in known]
                )
        for rival in RIVALS:
            found[f"{subset}/l2s_minus_{rival}"] = mean_interval(differences(own["l2s"], own[rival]), topics)
        found[f"{subset}/gap_closed"] = ratio_interval(
            differences(own["l2s"], own["mean"]), differences(own["p2s"], own["mean"]), topics
        )
    return found


def table(estimates: Mapping[str, Estimate]) -> str:
    """The comparison in Markdown: a row a method, then what decides."""
    subsets = [s for s in ("all", "seen", "unseen") if f"{s}/l2s/margin" in estimates]
    heads = ["method", *(f"margin, {s} templates" if s != "all" else "margin" for s in subsets)]
    lines = ["| " + " | ".join([*heads, "right instantiation"]) + " |"]
    lines.append("|---" * (len(heads) + 1) + "|")
    for method, what in METHODS.items():
        cells = [str(estimates[f"{s}/{method}/margin"]) for s in subsets]
        right = estimates.get(f"all/{method}/right")
        lines.append(f"| {method}: {what} | {' | '.join(cells)} | {right or '–'} |")
    lines.append("")
    for subset in subsets:
        for rival in RIVALS:
            lines.append(f"- {subset}: l2s − {rival}: {estimates[f'{subset}/l2s_minus_{rival}']}")
        lines.append(
            f"- {subset}: gap closed, (l2s − mean)/(p2s − mean): {estimates[f'{subset}/gap_closed']}"
        )
    return "\n".join(lines) + "\n"


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Prompt by prompt."""
    return [a - b for a, b in zip(first, second, strict=True)]
