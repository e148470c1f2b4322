"""Runs that start from a model: its weights, architecture and vocabulary; the rest from the config."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

import experiments
from experiments.errors import UserError
from experiments.evaluate.__main__ import main as evaluate_main
from experiments.evaluate.on_data import evaluate
from experiments.sample.__main__ import main as sample_main


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, write_llama: Callable[..., Path]) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


DATA = Path(__file__).parents[3] / "data"
FROZEN = {"optimizer": {"name": "sgd", "lr": 1e-30}, "trainer.max_epochs": 1}


def test_a_folder_gives_weights_architecture_and_vocabulary(
    language_settings: dict[str, Any], llama: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = experiments.run(language_settings, FROZEN, f"model.init_from={llama}", "model.dropout=0.25")
    assert "initialised 21 of 21 tensors" in capsys.readouterr().out
    config, network = result.module.config, result.module.network.eval()
    assert (config.depth, config.width, config.norm, config.dropout) == (2, 32, "rms_norm", 0.25)
    assert (network.vocab_size, network.context_length) == (259, 16)  # a row without a token is dropped
    theirs = LlamaForCausalLM.from_pretrained(llama)
    tokens = torch.arange(100, 116)[None]
    with torch.inference_mode():
        torch.testing.assert_close(network(tokens), theirs(tokens).logits[..., :259], rtol=1e-4, atol=1e-5)


def test_a_finished_run_needs_its_initial_weights_no_more(
    language_settings: dict[str, Any], llama: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is resumed, evaluated and sampled without the folder, from the same config and from its own."""
    shutil.copytree(llama, "model")
    sources = language_settings, "model.init_from=model", "run_dir=tuned"
    first = experiments.run(*sources, "trainer.max_epochs=1")
    shutil.rmtree("model")
    assert evaluate("tuned")["test/loss"] == pytest.approx(first.metrics["test/loss"])
    further = experiments.run(*sources, "resume=auto", "trainer.max_epochs=2")
    assert further.metrics["epochs"] == 2
    assert further.metrics["val/loss"] < first.metrics["val/loss"]
    assert experiments.run("resume=tuned", "trainer.max_epochs=3").metrics["epochs"] == 3
    capsys.readouterr()
    assert sample_main(["tuned", "--prompt", "The cat", "--max-new-tokens", "3"]) == 0
    assert evaluate_main(["tuned", "--text", language_settings["data"]["path"]]) == 0
    assert "bits_per_byte" in capsys.readouterr().out


def test_a_checkpoint_brings_its_architecture_and_vocabulary(
    language_settings: dict[str, Any], llama: Path, work: Path
) -> None:
    first = experiments.run(language_settings, FROZEN, f"model.init_from={llama}", "run_dir=first")
    again = experiments.run(language_settings, FROZEN, "model.init_from=first", "model.depth=1")
    assert again.module.config.depth == 2
    assert again.module.info.tokenizer == first.module.info.tokenizer
    assert again.metrics["test/loss"] == first.metrics["test/loss"]


@pytest.mark.network
@pytest.mark.slow
def test_smollm2_is_trained_on_a_text(language_settings: dict[str, Any], work: Path) -> None:
    """The file is quantised; its 135 million weights start the run in fp32."""
    few = [f"trainer.limit_{part}_batches=1" for part in ("train", "val", "test")]
    sizes = ["data.batch_size=1", "data.eval_batch_size=1", "trainer.max_epochs=1"]
    result = experiments.run(
        {**language_settings, "data": {**language_settings["data"], "context_length": 8}},
        {"optimizer": {"name": "sgd", "lr": 0.01}, "model.init_from": "smollm2"},
        *(*few, *sizes, f"data.root={DATA}"),
    )
    assert result.metrics["parameters"] == 134_515_008
    assert result.metrics["test/loss"] < 5  # ln 49152 = 10.8


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.context_length=65"], "data.context_length = 65: .* reads at most 64 tokens; lower it"),
        (
            ["model.name=char_rnn", "model.init_from=smollm2"],
            "is a language model, but model.name is char_rnn; only language_model",
        ),
        (["model.init_from=smolm2"], r"no checkpoint smolm2 \(did you mean smollm2\?\)"),
        (["model.init_from=gone.gguf"], "gone.gguf doesn't exist"),
    ],
)
def test_what_cannot_start_a_run_is_refused_and_leaves_nothing(
    language_settings: dict[str, Any], llama: Path, work: Path, overrides: list[str], said: str
) -> None:
    model = {} if overrides[0].startswith("model.name") else language_settings["model"]
    settings = {**language_settings, "model": {**model, "init_from": str(llama)}}
    with pytest.raises(UserError, match=said):
        experiments.run(settings, *overrides)
    assert not any(Path("runs").rglob("config.yaml"))


def test_a_chain_continues_from_an_earlier_stage_with_its_vocabulary(
    language_settings: dict[str, Any], work: Path
) -> None:
    """The second text lacks some of the first one's characters, so that its own vocabulary is smaller."""
    Path("other.txt").write_text("the cat sat on the mat. " * 40)
    stages = {"first": {}, "second": {"model.init_from": "first", "data.path": "other.txt"}}
    chain = experiments.run({**language_settings, "stages": stages}, "run_dir=chain", "trainer.max_epochs=1")
    first, second = (chain.children[name].module for name in ("first", "second"))
    assert first.info.tokenizer == second.info.tokenizer
    assert experiments.run("resume=chain").metrics == pytest.approx(chain.metrics)
