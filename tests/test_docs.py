"""The commands and programs of the README, the tutorials and the how-to guides run, with a small budget.

Each page runs from top to bottom in an empty folder. A block of Python or YAML that begins with a comment
such as `# wide.py` is saved under that name, as the page asks its reader to do.
"""

import dataclasses
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from datamodules.prompts import prompt_sets
from experiments.commands import COMMANDS
from experiments.steering import extraction
from tests.chat_templates import TEMPLATES

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs" / "tutorials").glob("*.md")),
    *sorted((REPOSITORY / "docs" / "how-to").glob("*.md")),
]
SHORT = [
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "trainer.dashboard=false",
]
DATA = f"data.root={REPOSITORY / 'data'}"
SMALLER = {
    "trainer.max_steps=5000": "trainer.max_steps=4",
    "trainer.check_val_every_n_steps=250": "trainer.check_val_every_n_steps=2",
    "seeds=[0,1,2]": "seeds=[0,1]",
    "smollm2": "tiny_chat",
    "model.init_from=smollm2": "model.init_from=tiny_chat",
}
READ_PROMPT_SET = prompt_sets.read_prompt_set
OFFLINE = (
    "configs/digits_study.yaml",
    "configs/steering_synthetic.yaml",
    "data.name=steering_pairs",
    "steer.yaml",
    "data.name=text",
    "data.name=image_folder",
    "data.name=chat",
    "data.name=table",
    "--use",
    "data.name=digits",
    "search.yaml",
    "configs/char_rnn_hello.yaml",
    "configs/regression_diabetes.yaml",
    "configs/lm_grpo.yaml",
    "data.name=pairs",
)
"""What marks a run that reads no downloaded data; the pages on own code make theirs."""


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the language and the content of each code block, those of lists included."""
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```", text, re.M | re.S):
        yield match[2], textwrap.dedent(match[3])


def commands(path: Path) -> list[str]:
    """The command lines of a page, without their comments."""
    lines = [line for language, block in blocks(path) if language == "bash" for line in block.splitlines()]
    return [line for line in lines if line.strip()]


def small(arguments: list[str]) -> list[str]:
    """The same run with a small budget."""
    if arguments[0].startswith("resume=") or {"--list", "--help"} & {
        *arguments
    }:  # a resumed run has its budget
        return arguments
    short = [*arguments, *SHORT]
    if not any(word.startswith("trainer.max_") for word in arguments):
        short.append("trainer.max_epochs=1")
    if "configs/digits_study.yaml" in arguments:
        short.append("seeds=[0]")
    if "configs/lm_grpo.yaml" in arguments:
        short += [
            "seeds=[0]",
            "data.val_size=8",
            "data.test_size=8",
            "data.longer_size=8",
            "data.batch_size=2",
        ]
    return short if any(mark in arguments for mark in OFFLINE) else [*short, DATA]


def command(name: str) -> Callable[[list[str]], int | None]:
    """The function that `python -m NAME` calls."""
    return COMMANDS[name.removeprefix("experiments.")].load().main


def write_tiny_chat(folder: Path) -> None:
    """Write a random chat model with as many layers as SmolLM2 and a vocabulary of bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 30, "num_attention_heads": 2}
    rest = {"vocab_size": 260, "max_position_embeddings": 1024, "eos_token_id": 258}
    LlamaForCausalLM(LlamaConfig(**sizes, **rest)).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATES["smollm2"], encoding="utf-8")


def few_prompts(name: str) -> prompt_sets.PromptSet:
    """Every 20th prompt of a set."""
    whole = READ_PROMPT_SET(name)
    return dataclasses.replace(whole, prompts=whole.prompts[::20])


def run_command(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run one command line and check its exit status."""
    text, _, remark = line.partition(" #")
    program, *arguments = (SMALLER.get(word, word) for word in shlex.split(text))
    expected = 2 if remark.strip().startswith("stops:") else 0
    if program == "tensorboard" or "venv" in line:
        return
    assert program == "python", line
    if arguments[0] != "-m":
        budget = SHORT if "run_dir=" in line else []
        script, *arguments = arguments
        subprocess.run(
            [sys.executable, script, *arguments, *budget],
            check=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        return
    _, name, *arguments = arguments
    if name == "experiments.run":
        arguments = small(arguments)
        if any("gpu.yaml" in a or "ddp.yaml" in a for a in arguments) and not torch.cuda.is_available():
            expected = 2
    elif name == "experiments.benchmark" and "--list" not in arguments:
        arguments.append("--quick")
        if arguments[0] == "gpu" and not torch.cuda.is_available():
            expected = 2
    elif name == "experiments.evaluate" and not {"--text", "--use"} & {*arguments}:
        arguments.append(DATA)
    status = command(name)(arguments)
    printed = capsys.readouterr()
    assert (status or 0) == expected, f"{line}\n{printed.out}\n{printed.err}"


def run_python(code: str) -> None:
    """Run a block that is not saved as a file: a call of `run`, here with a small budget."""
    budget = ", ".join(repr(word) for word in [*SHORT, DATA])
    short = code.replace('"trainer.max_epochs=1")', f'"trainer.max_epochs=1", {budget})')
    assert short != code
    scope = {"__name__": "__main__"}
    exec(compile(short, "page", "exec"), scope)  # our own text
    assert 0 <= scope["result"].metrics["test/accuracy"] <= 1  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.usefixtures("own_code_forgotten")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_page_runs_from_top_to_bottom(
    page: Path, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "docs").symlink_to(REPOSITORY / "docs")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Hi\n")))
    if "smollm2" in "\n".join(commands(page)):
        write_tiny_chat(work / "tiny_chat")
        monkeypatch.setattr(extraction, "read_prompt_set", few_prompts)
    capsys.readouterr()
    for language, block in blocks(page):
        name = re.match(r"# (\w+\.(?:py|yaml))\n", block)
        if name:
            Path(name[1]).write_text(block, encoding="utf-8")
        elif language == "python":
            run_python(block)
        elif language == "bash":
            for line in block.splitlines():
                run_command(line, capsys)


def test_both_opening_commands_set_everything_up_and_ci_runs_the_second() -> None:
    first, second = (line for line in commands(REPOSITORY / "README.md") if "venv" in line)
    assert first.startswith("python3 -m venv .venv && ")
    assert second.endswith("-m pytest")
    assert second in (REPOSITORY / ".ci" / "run").read_text().splitlines()


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if path.name != "CHANGELOG.md"],  # it names what has moved
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_every_command_names_an_existing_module_and_config(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"python -m (experiments(?:\.\w+)+)", text):
        assert importlib.util.find_spec(name) or name == "experiments.COMMAND", name
    for name in re.findall(r"\bconfigs/[\w/]+\.yaml", text):
        assert (REPOSITORY / name).exists() or name == "configs/NAME.yaml", name


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
        if target.startswith("http"):
            continue
        aim = (path.parent / target).resolve() if target else path
        assert aim.exists(), target
        if anchor:
            assert anchor in anchors(aim), f"{target}#{anchor}"


def test_every_file_and_folder_that_a_page_names_in_backticks_exists() -> None:
    roots = ("experiments/", "lit_modules/", "datamodules/", "tests/", "configs/", "docs/")
    for path in DOCUMENTS:
        if path.name == "CHANGELOG.md":  # it names what has moved
            continue
        for name in re.findall(r"`([\w./-]+)`", path.read_text(encoding="utf-8")):
            if name.startswith(roots) and "NAME" not in name:
                assert (REPOSITORY / name).exists(), f"{path.name}: {name}"


def test_every_building_block_exists() -> None:
    text = (REPOSITORY / "docs" / "explanation" / "building_blocks.md").read_text(encoding="utf-8")
    names = re.findall(r"`((?:functional|layers|networks|optim|configs)\.[\w.]+)", text)
    assert len(names) > 80
    for name in names:
        path, _, attribute = f"lit_modules.{name}".rpartition(".")
        assert hasattr(importlib.import_module(path), attribute), name
