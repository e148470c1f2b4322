"""Language models for the commands that use one: one that a run has trained, and one as others store it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

TEXT = "the cat sat on the mat; a dog ran to the café.\n" * 40


@pytest.fixture(scope="session")
def write_llama() -> Callable[..., Path]:
    """Writes a random Llama of two layers, with a vocabulary of bytes, as Hugging Face's library does."""

    def write(folder: Path, **settings: Any) -> Path:
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        rest = {"vocab_size": 260, "max_position_embeddings": 64, "eos_token_id": 258, **settings}
        LlamaForCausalLM(LlamaConfig(**(sizes | heads | rest))).save_pretrained(folder)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        tokenizer.save(str(folder / "tokenizer.json"))
        return folder

    return write


@pytest.fixture(scope="session")
def language_text() -> str:
    """What that model is trained, validated and tested on, in this order."""
    return TEXT


@pytest.fixture(scope="session")
def language_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A fit of two epochs of five steps on a text of 22 different characters."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "cat.txt").write_text(TEXT, encoding="utf-8")
    return {
        "name": "tiny_language",
        "model": {
            "name": "language_model",
            "depth": 2,
            "width": 16,
            "num_heads": 2,
            "position": "rotary",
            "tie_embeddings": False,
        },
        "data": {
            "name": "text",
            "path": str(folder / "cat.txt"),
            "root": str(folder / "data"),
            "context_length": 16,
            "batch_size": 8,
            "steps_per_epoch": 5,
            "val_fraction": 0.1,
            "test_fraction": 0.15,
        },
        "optimizer": {"name": "muon", "lr": 0.02, "adamw_lr": 0.01},
        "schedule": {"name": "warmup_cosine"},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "precision": "32-true",
            "log_every_n_steps": 2,
            "dashboard": False,
            "progress_bar": False,
        },
    }


@pytest.fixture(scope="session")
def language_run(language_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That run's directory."""
    import experiments

    settings = {**language_settings, "run_dir": str(tmp_path_factory.mktemp("runs") / "language")}
    return experiments.run(settings).run_dir


ANIMALS = {
    "instantiations.csv": "instantiation,family,keywords\ncat,animal,mat\ndog,animal,café\nrest,neutral,\n",
    "topics.csv": "instantiation,split,topic,statement\n"
    + "".join(
        f"{name},{split},{word} {end},the {word} sat {end}.\n"
        for name, word in (("cat", "mat"), ("dog", "café"), ("rest", "ran"))
        for end, split in (("a", "train"), ("the", "validation"), ("to", "test"))
    ),
    "templates.csv": "families,split,template\n"
    "*,seen,the {topic}\n*,seen,{statement} on\n*,unseen,a dog; {topic}\n",
    "completions.csv": "for,side,use,completion\n"
    "cat,wanted,fit,the cat\ncat,wanted,fit,on the mat\ncat,wanted,score,a mat\n"
    "dog,wanted,fit,a dog\ndog,wanted,score,ran\n"
    "animal,unwanted,fit,sat\nanimal,unwanted,score,the\n",
}
"""A prompt set of eighteen prompts, of which six are neutral, in letters that the tiny model knows."""


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """The folder of a small prompt set."""
    folder = tmp_path / "animals"
    folder.mkdir()
    for name, text in ANIMALS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder
