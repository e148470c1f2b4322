"""A bench with the tiny chain's model, prompts and hidden states, held to reading one text at a time."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.prompts.prompt_sets import PromptSet, read_prompt_set
from experiments.errors import UserError
from experiments.language_models.opening import LoadedModel, open_language_model
from experiments.steering.bench import Bench, Plan, Written, perplexity_ratio, repetition
from experiments.studies.tasks import STATES


@pytest.fixture(name="model")
def _model(chain_settings: dict[str, Any]) -> LoadedModel:
    settings = chain_settings["stages"]["extract"]["task"]
    return open_language_model(settings["language_model"], "fp32", laid_out=False)


@pytest.fixture(name="prompts")
def _prompts(chain_settings: dict[str, Any]) -> PromptSet:
    return read_prompt_set(chain_settings["stages"]["extract"]["task"]["prompts"])


@torch.no_grad()
def test_answers_are_judged_by_the_unsteered_model_each_alone(
    model: LoadedModel, prompts: PromptSet, chain_run: Path
) -> None:
    bench = Bench(model, prompts, chain_run / "extract" / STATES, answers=1, batch_size=3)
    rows = bench.rows("test", limit=4)
    vectors = torch.ones(4, model.network.embedding.embedding_dim)
    plans = {
        "plain": Plan(layer=0, vectors=vectors, alpha=0.0),
        "steered": Plan(layer=0, vectors=vectors),
        "told": Plan(layer=0, vectors=vectors, alpha=0.0, instruction="Be brief."),
    }
    written = bench.write(rows, plans, max_new_tokens=4)
    judged = {}
    for name, own in written.items():
        likelihoods = []
        for prompt, answer, found in zip(bench.chosen(rows), own.tokens, own.unsteered, strict=True):
            before = model.tokenizer.encode(f"{plans[name].instruction} {prompt.text}\n".lstrip())
            if name != "steered":  # the most probable tokens, one after the other
                for place, token in enumerate(answer):
                    logits = model.network(torch.tensor([[*before, *answer[:place]]]))[0, -1]
                    assert logits[: model.tokenizer.vocab_size].argmax() == token
            ids = model.tokenizer.encode(f"{prompt.text}\n")
            steps = model.network(torch.tensor([[*ids, *answer]]))[0].log_softmax(-1)
            chosen = [steps[len(ids) - 1 + place, token].item() for place, token in enumerate(answer)]
            assert found == pytest.approx(sum(chosen) / len(chosen), rel=1e-4)
            likelihoods.append(sum(chosen) / len(chosen))
        judged[name] = -sum(likelihoods) / 4
    assert written["steered"].tokens != written["plain"].tokens != written["told"].tokens
    ratio = perplexity_ratio(written["steered"], written["plain"])
    assert ratio == pytest.approx(math.exp(judged["steered"] - judged["plain"]), rel=1e-4)


def test_silence_makes_no_answer_less_perplexing() -> None:
    plain = Written([[1], [2], []], [-1.0, -3.0, math.nan])
    assert perplexity_ratio(Written([[1], [], [5]], [-1.5, math.nan, -9.0]), plain) == math.exp(0.5)
    assert math.isnan(perplexity_ratio(Written([[], [], [5]], [math.nan, math.nan, -9.0]), plain))


@torch.no_grad()
def test_divergence_is_that_of_the_next_token(
    model: LoadedModel, prompts: PromptSet, chain_run: Path
) -> None:
    bench = Bench(model, prompts, chain_run / "extract" / STATES, answers=1, batch_size=3)
    rows = bench.rows("test", limit=4)
    ones = torch.ones(4, model.network.embedding.embedding_dim)
    apart = bench.divergence(
        rows,
        {
            "plain": Plan(layer=0, vectors=ones, alpha=0.0),
            "steered": Plan(layer=0, vectors=ones),
            "told": Plan(layer=0, vectors=ones, alpha=0.0, instruction="Be brief."),
        },
    )
    assert apart["plain"] == pytest.approx([0.0] * 4, abs=1e-6)
    assert min(apart["steered"]) > 1e-4
    for prompt, found in zip(bench.chosen(rows), apart["told"], strict=True):
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
