"""A tiny language model with random weights, a tiny prompt set, and a chain that has run on both."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import experiments
from tests.chat_templates import TEMPLATES

NAMES = {"skin": "medical", "heart": "medical", "tenancy": "legal"}
WORDS = {"skin": "rash", "heart": "beat", "tenancy": "rent", "as_it_is": "cake"}
SPLITS = ("train", "train", "train", "validation", "validation", "test", "test")


def write_prompts(folder: Path) -> Path:
    """Four instantiations, of which one is neutral, with seven topics each."""
    folder.mkdir()
    files = {
        "instantiations.csv": "instantiation,family,keywords\n"
        + "".join(f"{n},{f},{n}\n" for n, f in NAMES.items())
        + "as_it_is,neutral,\n",
        "topics.csv": "instantiation,split,topic,statement\n"
        + "".join(
            f"{name},{split},{word} {number},My {word} {number}.\n"
            for name, word in WORDS.items()
            for number, split in enumerate(SPLITS)
        ),
        "templates.csv": "families,split,template\n"
        "*,seen,Why {topic}?\n*,seen,{statement} Help\n*,unseen,So {topic}?\n",
        "completions.csv": "for,side,use,completion\n"
        + "".join(f"{name},wanted,fit,See {name}.\n{name},wanted,score,Ask {name}.\n" for name in NAMES)
        + "".join(
            f"{family},unwanted,fit,No.\n{family},unwanted,score,Wait.\n"
            for family in sorted(set(NAMES.values()))
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def chain_settings(
    tmp_path_factory: pytest.TempPathFactory, write_llama: Callable[..., Path]
) -> dict[str, Any]:
    """The stages of `configs/steering_smollm2.yaml`, all small."""
    folder = tmp_path_factory.mktemp("steering")
    llama = write_llama(folder / "llama", max_position_embeddings=256, initializer_range=0.2)
    (llama / "chat_template.jinja").write_text(TEMPLATES["smollm2"], encoding="utf-8")
    extract = {
        "name": "steering_extract",
        "language_model": str(llama),
        "prompts": str(write_prompts(folder / "prompts")),
        "layers": [0, 1],
        "precision": "fp32",
        "batch_size": 16,
    }
    return {
        "name": "tiny_steering",
        "model": {"name": "steering", "hidden": 16, "activation": "tanh", "normalize_inputs": True},
        "data": {
            "name": "steering_pairs",
            "from_stage": "extract",
            "input_layer": 0,
            "target_layer": 0,
            "batch_size": 8,
        },
        "optimizer": {"name": "adamw", "lr": 0.01},
        "trainer": {
            "max_epochs": 3,
            "accelerator": "cpu",
            "precision": "32-true",
            "dashboard": False,
            "progress_bar": False,
        },
        "stages": {
            "extract": {"task": extract},
            "train_0": {},
            "train_1": {"data": {"input_layer": 1, "target_layer": 1}},
            "conversations": {"task": {"name": "steering_conversations", "max_new_tokens": 5}},
            "lora": {
                "model": {"name": "language_model", "init_from": str(llama)},
                "data": {"name": "chat", "from_stage": "conversations", "context_length": 200},
                "adapter": {"name": "lora", "rank": 2},
                "optimizer": {"lr": 0.03},
                "trainer": {"max_epochs": 1},
            },
            "choose": {
                "task": {
                    "name": "steering_choose",
                    "prompts": 6,
                    "seeds": [0, 1],
                    "alphas": [0.5, 1.0],
                    "written": 3,
                    "max_new_tokens": 5,
                }
            },
            "test": {"task": {"name": "steering_test", "prompts": 8, "seeds": [0, 1]}},
            "generate": {
                "task": {
                    "name": "steering_generate",
                    "prompts": 5,
                    "neutral": 3,
                    "max_new_tokens": 5,
                    "samples": 2,
                }
            },
            "strong": {"task": {"name": "steering_generate", "prompts": 5, "neutral": 0, "alpha": 50.0}},
        },
    }


@pytest.fixture(scope="session")
def chain_run(chain_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That chain's directory."""
    place = tmp_path_factory.mktemp("runs") / "chain"
    result = experiments.run({**chain_settings, "run_dir": str(place)})
    assert json.loads((place / "metrics.json").read_text()).keys() >= result.metrics.keys()
    return result.run_dir
