"""Models that others trained: opened by name, folder or file, and what they say."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from experiments.errors import UserError
from experiments.language_models.opening import open_language_model
from experiments.language_models.pretrained_models import is_pretrained, open_pretrained
from experiments.sample.__main__ import main as sample_main
from experiments.sample.continuation import continue_texts
from lit_modules.configs.generation import SamplingConfig
from tests.chat_templates import TEMPLATES

DATA = Path(__file__).parents[3] / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_llama: Callable[..., Path]) -> Path:
    """A tiny Llama with random weights and a vocabulary of bytes, as Hugging Face's library stores it."""
    return write_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_folder_continues_texts_as_the_library_does(folder: Path, precision: str) -> None:
    model = open_language_model(str(folder), precision)
    ids = model.tokenizer.encode("Once")
    theirs = LlamaForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        expected = theirs(torch.tensor([ids])).logits
        logits = model.network(torch.tensor([ids]))
    tolerance = {"fp32": 1e-5, "bf16": 0.03, "int8": 0.03}[precision] * float(expected.std())
    assert float((logits - expected).square().mean().sqrt()) < tolerance
    assert (model.context_length, model.stop_ids, model.chat) == (64, (256, 258), None)
    made = continue_texts(model, [ids], SamplingConfig(max_new_tokens=9, temperature=0.0))
    assert made[0].tokens <= 9


def test_the_layers_of_one_not_laid_out_can_be_read(folder: Path) -> None:
    model = open_language_model(str(folder), laid_out=False)
    tokens, states = torch.tensor([model.tokenizer.encode("Once")]), []
    with torch.inference_mode():
        model.network(tokens, hidden_states=states)
        theirs = LlamaForCausalLM.from_pretrained(folder)(tokens, output_hidden_states=True)
    torch.testing.assert_close(states[1], theirs.hidden_states[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(states[0], theirs.hidden_states[0])


def test_a_known_template_makes_it_a_chat_model(copied: Path) -> None:
    (copied / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATES["smollm2"]}))
    model = open_pretrained(str(copied))
    assert model.chat is not None
    assert model.tokenizer.decode(model.chat("Hi")).endswith("user\nHi<|im_end|>\n<|im_start|>assistant\n")
    (copied / "chat_template.jinja").write_text("{{ something else }}")
    assert open_pretrained(str(copied)).chat is None


def test_a_template_that_cannot_be_read_leaves_a_model_without_a_chat(copied: Path) -> None:
    for damaged in ("[" * 100_000, "{", "[]", "{}"):
        (copied / "tokenizer_config.json").write_text(damaged)
        assert open_pretrained(str(copied)).chat is None


def test_a_vocabulary_in_gpt2s_files(copied: Path) -> None:
    vocabulary = json.loads((copied / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (copied / "vocab.json").write_text(json.dumps(vocabulary))
    (copied / "merges.txt").write_text("#version: 0.2\n")
    (copied / "tokenizer.json").unlink()
    assert open_pretrained(str(copied)).tokenizer.vocab_size == 256


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_language_model(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_vocabulary_that_does_not_match(copied: Path) -> None:
    values = json.loads((copied / "tokenizer.json").read_text(encoding="utf-8"))
    for number in range(5):
        entry = values["added_tokens"][0] | {"id": 259 + number, "content": f"<|{number}|>"}
        values["added_tokens"].append(entry)
    (copied / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    assert "does not match its network: 264 tokens, but the network has 260" in refusal(copied)


def test_files_that_are_missing_or_broken(copied: Path, tmp_path: Path) -> None:
    (copied / "tokenizer.json").write_text("{}")
    assert "tokenizer.json: malformed" in refusal(copied)
    (copied / "tokenizer.json").unlink()
    assert "has no tokenizer.json, and no vocab.json and merges.txt" in refusal(copied)
    (copied / "model.safetensors").write_bytes(b"short")
    assert "is a truncated or invalid safetensors file" in refusal(copied)
    assert "nowhere.gguf doesn't exist" in refusal(tmp_path / "nowhere.gguf")
    (tmp_path / "text.gguf").write_text("some text")
    assert "isn't a GGUF file: it starts with b'some'" in refusal(tmp_path / "text.gguf")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs_is_named(copied: Path, name: str) -> None:
    (copied / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert f"{name} is a Git LFS pointer, not the file itself" in refusal(copied)


def test_weights_in_another_format_matter_only_without_safetensors(copied: Path) -> None:
    (copied / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    open_pretrained(str(copied))
    shutil.move(copied / "pytorch_model.bin", copied / "model.gguf")
    assert "model.gguf is a Git LFS pointer" in refusal(copied / "model.gguf")
    shutil.move(copied / "model.gguf", copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    assert "pytorch_model.bin is a Git LFS pointer" in refusal(copied)


def test_what_is_meant_by_a_name(folder: Path, tmp_path: Path) -> None:
    assert is_pretrained("smollm2")
    assert is_pretrained(str(folder))
    assert is_pretrained("somewhere/model.gguf")
    assert not is_pretrained(str(tmp_path))
    assert not is_pretrained("runs/some/run")


@pytest.mark.network
@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real model, in 8 bits, through the command itself."""
    monkeypatch.chdir(DATA.parent)
    arguments = ["smollm2", "--precision", "int8", "--chat", "What is the capital of France?"]
    assert sample_main(arguments) == 0
    assert capsys.readouterr().out == "The capital of France is Paris.\n"
