"""An evaluator with the model, prompts and hidden states of the tiny chain, compared with single texts."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.prompts.prompt_sets import PromptSet, read_prompt_set
from experiments.errors import UserError
from experiments.language_models.loaded_model import LoadedModel
from experiments.language_models.opening import open_language_model
from experiments.steering.evaluator import Evaluator, Plan
from experiments.steering.measures import perplexity_ratio
from experiments.steering.states_manifest import STATES


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
    evaluator = Evaluator(model, prompts, chain_run / "extract" / STATES, answers=1, batch_size=3)
    rows = evaluator.rows("test", limit=4)
    vectors = torch.ones(4, model.network.embedding.embedding_dim)
    plans = {
        "plain": Plan(layer=0, vectors=vectors, factor=0.0),
        "steered": Plan(layer=0, vectors=vectors),
        "told": Plan(layer=0, vectors=vectors, factor=0.0, instruction="Be brief."),
    }
    written = evaluator.write(rows, plans, max_new_tokens=4)
    judged = {}
    for name, own in written.items():
        likelihoods = []
        for prompt, answer, found in zip(
            evaluator.chosen(rows), own.tokens, own.log_probability, strict=True
        ):
            before = model.chat(f"{plans[name].instruction} {prompt.text}".lstrip())
            if name != "steered":  # the most probable tokens, one after the other
                for place, token in enumerate(answer):
                    logits = model.network(torch.tensor([[*before, *answer[:place]]]))[0, -1]
                    assert logits[: model.tokenizer.vocab_size].argmax() == token
            ids = model.chat(prompt.text)
            steps = model.network(torch.tensor([[*ids, *answer]]))[
                0, :, : model.tokenizer.vocab_size
            ].log_softmax(-1)
            chosen = [steps[len(ids) - 1 + place, token].item() for place, token in enumerate(answer)]
            assert found == pytest.approx(sum(chosen) / len(chosen), rel=1e-4)
            likelihoods.append(sum(chosen) / len(chosen))
        judged[name] = -sum(likelihoods) / 4
    assert written["steered"].tokens != written["plain"].tokens != written["told"].tokens
    ratio = perplexity_ratio(written["steered"].log_probability, written["plain"].log_probability)
    assert ratio == pytest.approx(math.exp(judged["steered"] - judged["plain"]), rel=1e-4)


@torch.no_grad()
def test_divergence_is_that_of_the_next_token(
    model: LoadedModel, prompts: PromptSet, chain_run: Path
) -> None:
    evaluator = Evaluator(model, prompts, chain_run / "extract" / STATES, answers=1, batch_size=3)
    rows = evaluator.rows("test", limit=4)
    ones = torch.ones(4, model.network.embedding.embedding_dim)
    apart = evaluator.divergence(
        rows,
        {
            "plain": Plan(layer=0, vectors=ones, factor=0.0),
            "steered": Plan(layer=0, vectors=ones),
            "told": Plan(layer=0, vectors=ones, factor=0.0, instruction="Be brief."),
        },
    )
    assert apart["plain"] == pytest.approx([0.0] * 4, abs=1e-6)
    assert min(apart["steered"]) > 1e-4
    for prompt, found in zip(evaluator.chosen(rows), apart["told"], strict=True):
        plain, other = (
            model.network(torch.tensor([model.chat(text)]))[0, -1, : model.tokenizer.vocab_size].log_softmax(
                -1
            )
            for text in (prompt.text, f"Be brief. {prompt.text}")
        )
        assert found == pytest.approx((plain.exp() * (plain - other)).sum().item(), rel=1e-3, abs=1e-5)


@torch.no_grad()
def test_low_rank_updates_answer_in_place_of_the_model(
    model: LoadedModel, prompts: PromptSet, chain_run: Path
) -> None:
    """With the factor 1 as the adapted model alone does, with the factor 0 as the frozen model."""
    evaluator = Evaluator(model, prompts, chain_run / "extract" / STATES, answers=1, batch_size=3)
    rows = evaluator.rows("test", limit=4)
    nothing = torch.zeros(4, model.network.embedding.embedding_dim)
    plans = {
        "frozen": Plan(layer=0, vectors=nothing),
        **{
            f"lora {factor}": Plan(layer=0, vectors=nothing, factor=factor, adapter=chain_run / "lora")
            for factor in (0.0, 0.5, 1.0)
        },
    }
    scores = evaluator.score(rows, plans)
    assert model.network.vocab_size == model.tokenizer.vocab_size + 1  # an output without a token
    assert scores["lora 0.0"].wanted == pytest.approx(scores["frozen"].wanted, abs=1e-5)
    assert scores["lora 0.5"].wanted != pytest.approx(scores["lora 1.0"].wanted, abs=1e-3)
    adapted = open_language_model(str(chain_run / "lora"), "fp32", laid_out=False)
    for prompt, found in zip(evaluator.chosen(rows), scores["lora 1.0"].wanted, strict=True):
        before = model.chat(prompt.text)
        (text,) = prompts.completions(prompt.instantiation, "wanted", "score")
        answer = model.tokenizer.encode(text)
        steps = adapted.network(torch.tensor([[*before, *answer]]))[0].log_softmax(-1)
        chosen = [steps[len(before) - 1 + place, token].item() for place, token in enumerate(answer)]
        assert found == pytest.approx(sum(chosen) / len(chosen), rel=1e-4)


def test_refuses_a_file_of_another_model_or_other_prompts(
    model: LoadedModel, prompts: PromptSet, chain_run: Path
) -> None:
    path = chain_run / "extract" / STATES
    others = dataclasses.replace(prompts, prompts=prompts.prompts[::-1])
    with pytest.raises(UserError, match="was made from other prompts or answers than prompts has now"):
        Evaluator(model, others, path, answers=1)
    moved = tuple(
        dataclasses.replace(p, split="validation") if p.split == "train" else p for p in prompts.prompts
    )
    with pytest.raises(UserError, match="was made with other splits of the prompts; remove it"):
        Evaluator(model, dataclasses.replace(prompts, prompts=moved), path, answers=1)
    with torch.no_grad():
        model.network.trunk.final_norm.weight[0] += 1
    with pytest.raises(UserError, match="was made from another model"):
        Evaluator(model, prompts, path, answers=1)


def test_prompts_are_drawn_alike_each_time_and_from_all_templates(
    model: LoadedModel, prompts: PromptSet, chain_run: Path
) -> None:
    evaluator = Evaluator(model, prompts, chain_run / "extract" / STATES, answers=1)
    every = evaluator.rows("test")
    assert all(prompts.prompts[row].split == "test" for row in every)
    some = evaluator.rows("test", limit=len(every) // 2)
    assert some == sorted(set(some)) == evaluator.rows("test", limit=len(every) // 2)
    assert set(some) < set(every)
    assert {prompts.prompts[row].template for row in some} == {prompts.prompts[row].template for row in every}
    assert evaluator.rows("test", limit=len(every) + 1) == every
