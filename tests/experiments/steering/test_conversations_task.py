"""The stage left by the tiny chain, and the stage that learns from it."""

import json
from pathlib import Path
from typing import Any

import pytest

import experiments
from datamodules.prompts.prompt_sets import read_prompt_set
from datamodules.text.conversations import read_conversations
from experiments.errors import UserError
from experiments.training.run_directory import read_metrics


def test_every_prompt_has_the_answers_of_its_vector_and_neutral_prompts_the_models_own(
    chain_run: Path, chain_settings: dict[str, Any]
) -> None:
    prompts = read_prompt_set(chain_settings["stages"]["extract"]["task"]["prompts"])
    found: dict[str, set[tuple[str, str | None]]] = {}
    for messages, split, _ in read_conversations(chain_run / "conversations" / "conversations.jsonl"):
        (_, question), (_, answer) = messages
        found.setdefault(question, set()).add((answer, split))
    for prompt in prompts.prompts:
        if prompt.instantiation == "as_it_is":
            ((_, split),) = found.get(prompt.text, {("", prompt.split)})
            assert split == prompt.split
        else:
            assert found[prompt.text] == {(f"See {prompt.instantiation}.", prompt.split)}


def test_only_the_updates_are_trained(chain_run: Path) -> None:
    metrics = read_metrics(chain_run / "lora")
    # Two layers: A and B of rank 2 for query (32 to 32) and value (32 to 16).
    assert metrics["trained_parameters"] == 2 * 2 * (32 + 32 + 32 + 16)
    assert (chain_run / "lora" / "adapter" / "adapter_model.safetensors").is_file()
    choice = json.loads((chain_run / "choose" / "choice.json").read_text())
    assert choice["adapter"] == "lora"
    assert choice["tried"]["lora"].keys() == {"0.5", "1"}


def test_conversations_need_an_extracted_chat(chain_settings: dict[str, Any], tmp_path: Path) -> None:
    stages = {name: chain_settings["stages"][name] for name in ("extract", "conversations")}
    settings = {**chain_settings, "run_dir": str(tmp_path / "chain")}
    with pytest.raises(UserError, match=r"stages\.conversations: no earlier stage extracts hidden states"):
        experiments.run({**settings, "stages": {"conversations": stages["conversations"]}})
    plain = {"task": {**stages["extract"]["task"], "template": "plain"}}
    with pytest.raises(UserError, match=r"task\.template is plain: low-rank updates learn conversations"):
        experiments.run({**settings, "stages": {**stages, "extract": plain}})
    assert not (tmp_path / "chain").exists()
