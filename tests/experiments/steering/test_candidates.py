"""Prompts that share the sentences of their vectors, in the tiny chain."""

import dataclasses
from pathlib import Path
from typing import Any

from datamodules.prompts.prompt_sets import read_prompt_set
from experiments.language_models.opening import open_language_model
from experiments.steering.candidates import sentences
from experiments.steering.evaluator import Evaluator
from experiments.steering.states_manifest import STATES


def test_vectors_of_the_same_sentences_have_the_same_name(
    chain_run: Path, chain_settings: dict[str, Any]
) -> None:
    settings = chain_settings["stages"]["extract"]["task"]
    model = open_language_model(settings["language_model"], "fp32", laid_out=False)
    prompts = read_prompt_set(settings["prompts"])
    evaluator = Evaluator(model, prompts, chain_run / "extract" / STATES, answers=1)
    rows = evaluator.rows("train")
    names = sentences(evaluator, rows)
    answers = [prompt.instantiation for prompt in evaluator.chosen(rows)]
    assert len(set(zip(answers, names, strict=True))) == len(set(names)) == 3
    assert "[['See skin.'], ['No.']]" in names
    # Another sentence for each second prompt; a pair of sentences has one name in both orders.
    more = {**prompts._completions, ("skin", "wanted", "fit"): ("See skin.", "Go to skin.")}
    evaluator.prompts = dataclasses.replace(prompts, _completions=more)
    skin = [row for row in rows if prompts.prompts[row].instantiation == "skin"]
    assert len(set(sentences(evaluator, skin))) == 2
    evaluator.answers = 2
    assert len(set(sentences(evaluator, skin))) == 1
