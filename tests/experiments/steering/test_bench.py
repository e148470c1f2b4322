"""A bench with the tiny chain's model, prompts and hidden states, held to reading one text at a time."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.prompt_sets import PromptSet, read_prompt_set
from experiments.errors import UserError
from experiments.language_models import LoadedModel, open_language_model
from experiments.steering.bench import Bench, Plan, repetition
from experiments.tasks import STATES


@pytest.fixture(name="model")
def _model(chain_settings: dict[str, Any]) -> LoadedModel:
    settings = chain_settings["stages"]["extract"]["task"]
    return open_language_model(settings["language_model"], "fp32", laid_out=False)


@pytest.fixture(name="prompts")
def _prompts(chain_settings: dict[str, Any]) -> PromptSet:
    return read_prompt_set(chain_settings["stages"]["extract"]["task"]["prompts"])


@torch.no_grad()
def test_perplexity_is_that_of_each_answer_alone(
    model: LoadedModel, prompts: PromptSet, chain_run: Path
) -> None:
    bench = Bench(model, prompts, chain_run / "extract" / STATES, answers=1, batch_size=3)
    rows = bench.rows("test", limit=4)
    written = [[3, 1, 4], [], [1, 5], [9]]
    likelihoods = []
    for prompt, answer in zip(bench.chosen(rows), written, strict=True):
        ids = model.tokenizer.encode(f"{prompt.text}\n")
        steps = model.network(torch.tensor([[*ids, *answer]]))[0].log_softmax(-1)
        chosen = [steps[len(ids) - 1 + place, token].item() for place, token in enumerate(answer)]
        likelihoods += [sum(chosen) / len(chosen)] if chosen else []
    assert bench.perplexity(rows, written) == pytest.approx(math.exp(-sum(likelihoods) / 3), rel=1e-4)
    assert math.isnan(bench.perplexity(rows, [[], [], [], []]))
    ones = torch.ones(4, model.network.embedding.embedding_dim)
    assert bench.divergence(rows, Plan(layer=0, vectors=ones, alpha=0.0)) == pytest.approx(
        [0.0] * 4, abs=1e-6
    )
    assert min(bench.divergence(rows, Plan(layer=0, vectors=ones))) > 1e-4
    told = Plan(layer=0, vectors=ones, alpha=0.0, instruction="Be brief.")
    for prompt, found in zip(bench.chosen(rows), bench.divergence(rows, told), strict=True):
        plain, other = (
            model.network(torch.tensor([model.tokenizer.encode(f"{text}\n")]))[0, -1].log_softmax(-1)
            for text in (prompt.text, f"Be brief. {prompt.text}")
        )
        assert found == pytest.approx((plain.exp() * (plain - other)).sum().item(), rel=1e-3, abs=1e-5)


def test_refuses_a_file_of_another_model_or_other_prompts(
    model: LoadedModel, prompts: PromptSet, chain_run: Path
) -> None:
    path = chain_run / "extract" / STATES
    others = dataclasses.replace(prompts, prompts=prompts.prompts[::-1])
    with pytest.raises(UserError, match="was made of other prompts or answers than prompts has now"):
        Bench(model, others, path, answers=1)
    moved = tuple(
        dataclasses.replace(p, split="validation") if p.split == "train" else p for p in prompts.prompts
    )
    with pytest.raises(UserError, match="was made when prompts were in other splits; remove it"):
        Bench(model, dataclasses.replace(prompts, prompts=moved), path, answers=1)
    with torch.no_grad():
        model.network.trunk.final_norm.weight[0] += 1
    with pytest.raises(UserError, match="was made from another model"):
        Bench(model, prompts, path, answers=1)


def test_repetition_is_the_share_of_runs_that_were_there_before() -> None:
    assert repetition([1, 2, 3, 1, 2, 3]) == pytest.approx(1 / 4)
    assert repetition([7] * 12) == pytest.approx(9 / 10)
    assert repetition([1, 2]) == repetition([]) == repetition([1, 2, 3, 4]) == 0


def test_prompts_are_drawn_alike_each_time_and_from_all_templates(
    model: LoadedModel, prompts: PromptSet, chain_run: Path
) -> None:
    bench = Bench(model, prompts, chain_run / "extract" / STATES, answers=1)
    every = bench.rows("test")
    assert all(prompts.prompts[row].split == "test" for row in every)
    some = bench.rows("test", limit=len(every) // 2)
    assert some == sorted(set(some)) == bench.rows("test", limit=len(every) // 2)
    assert set(some) < set(every)
    assert {prompts.prompts[row].template for row in some} == {prompts.prompts[row].template for row in every}
    assert bench.rows("test", limit=len(every) + 1) == every
