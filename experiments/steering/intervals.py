"""Estimates with intervals for the comparison of the methods, and their table."""

import math
from collections.abc import Mapping, Sequence

from datamodules.prompts.prompt_sets import Prompt
from experiments.steering.bootstrap import Estimate, mean_interval, ratio_interval
from experiments.steering.measures import differences
from experiments.steering.methods import METHODS

RIVALS = ("mean", "router", "fine_router", "l2s_shuffled", "ridge", "lora")
"""Methods that the learned network is compared with, prompt by prompt."""


def estimate_all(
    prompts: Sequence[Prompt],
    margins: Mapping[str, Sequence[float]],
    rights: Mapping[str, Sequence[float]],
) -> dict[str, Estimate]:
    """Estimate every figure over all prompts, over seen templates, and over unseen templates.

    Args:
        prompts: The evaluated prompts.
        margins: The margins of each method, one for each prompt.
        rights: `Scores.right` of each method, one for each prompt; NaN in a family with one instantiation.

    Returns:
        `SUBSET/METHOD/margin`, `SUBSET/METHOD/right`, `SUBSET/l2s_minus_RIVAL`, `SUBSET/gap_closed`.
    """
    subsets = {
        "all": list(range(len(prompts))),
        "seen": [i for i, prompt in enumerate(prompts) if prompt.seen],
        "unseen": [i for i, prompt in enumerate(prompts) if not prompt.seen],
    }
    rivals = [rival for rival in RIVALS if rival in margins]
    found: dict[str, Estimate] = {}
    for subset, places in subsets.items():
        if not places:
            continue
        topics = [prompts[i].topic for i in places]
        own = {method: [values[i] for i in places] for method, values in margins.items()}
        for method in margins:
            found[f"{subset}/{method}/margin"] = mean_interval(own[method], topics)
            known = [i for i in places if not math.isnan(rights[method][i])]
            if known:
                found[f"{subset}/{method}/right"] = mean_interval(
                    [rights[method][i] for i in known], [prompts[i].topic for i in known]
                )
        for rival in rivals:
            found[f"{subset}/l2s_minus_{rival}"] = mean_interval(differences(own["l2s"], own[rival]), topics)
        found[f"{subset}/gap_closed"] = ratio_interval(
            differences(own["l2s"], own["mean"]), differences(own["p2s"], own["mean"]), topics
        )
    return found


def table(estimates: Mapping[str, Estimate]) -> str:
    """Format the estimates as Markdown: a table with a row for each method, then a list of differences."""
    subsets = [s for s in ("all", "seen", "unseen") if f"{s}/l2s/margin" in estimates]
    heads = ["method", *(f"margin, {s} templates" if s != "all" else "margin" for s in subsets)]
    lines = ["| " + " | ".join([*heads, "right instantiation"]) + " |"]
    lines.append("|---" * (len(heads) + 1) + "|")
    for method, what in METHODS.items():
        if f"all/{method}/margin" not in estimates:
            continue
        cells = [str(estimates[f"{s}/{method}/margin"]) for s in subsets]
        right = estimates.get(f"all/{method}/right")
        lines.append(f"| {method}: {what} | {' | '.join(cells)} | {right or '–'} |")
    lines.append("")
    for subset in subsets:
        for rival in RIVALS:
            if (estimate := estimates.get(f"{subset}/l2s_minus_{rival}")) is not None:
                lines.append(f"- {subset}: l2s − {rival}: {estimate}")
        lines.append(
            f"- {subset}: gap closed, (l2s − mean)/(p2s − mean): {estimates[f'{subset}/gap_closed']}"
        )
    return "\n".join(lines) + "\n"
