"""The command line of `experiments.sample`, on a model that a run has trained."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datamodules.tokenizers import CharacterTokenizer
from experiments.language_models.loaded_model import LoadedModel
from experiments.sample.__main__ import main


def texts(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_prompt_and_its_continuation_are_printed(
    language_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(language_run), "--prompt", "the c", "--max-new-tokens", "10"]) == 0
    printed = capsys.readouterr()
    (record,) = texts(capsys, str(language_run), "--prompt", "the c", "--max-new-tokens", "10")
    assert printed.out == "the c" + record["text"] + "\n"
    assert len(record["text"]) == record["tokens"] == 10
    assert re.fullmatch(r"10 tokens in [\d.]+ s: \d+ tokens/s\n", printed.err)


def test_several_prompts_and_samples_stand_below_each_other(
    language_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(language_run), "--prompt", "the ", "--prompt", "a dog", "--samples", "2", "--seed", "7"]
    arguments += ["--max-new-tokens", "11"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    records = texts(capsys, *arguments)
    assert [(r["prompt"], r["seed"]) for r in records] == [
        ("the ", 7),
        ("the ", 8),
        ("a dog", 7),
        ("a dog", 8),
    ]
    expected = "\n".join(f"── {i} of 4 ──\n{r['prompt']}{r['text']}" for i, r in enumerate(records, start=1))
    assert printed == expected + "\n"
    # Each is what it would be alone.
    for record in records:
        alone = ["--prompt", record["prompt"], "--seed", str(record["seed"]), "--max-new-tokens", "11"]
        assert texts(capsys, str(language_run), *alone) == [record]


def test_options_reach_the_sampler(language_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def text(*options: str) -> str:
        (record,) = texts(capsys, str(language_run), "--prompt", "the ", "--max-new-tokens", "40", *options)
        return record["text"]

    plain = text()
    assert text("--no-cache") == plain
    greedy = text("--temperature", "0")
    assert greedy == text("--top-k", "1") == text("--min-p", "1") == text("--top-p", "1e-9") != plain
    assert text("--temperature", "0", "--repetition-penalty", "1.5") != greedy
    assert text("--seed", "1") != plain
    assert text("--stop", plain[10:13]) == plain[: plain.index(plain[10:13])]
    assert len(text("--precision", "bf16")) == 40


def test_without_a_prompt_a_text_starts_at_a_line_end(
    language_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert texts(capsys, str(language_run)) == texts(capsys, str(language_run), "--prompt", "\n")


def test_a_model_without_line_ends_asks_for_a_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scripted: Callable[..., LoadedModel]
) -> None:
    model = replace(scripted("ab"), tokenizer=CharacterTokenizer("ab"))
    monkeypatch.setattr("experiments.sample.__main__.open_language_model", lambda *_, **__: model)
    assert main(["any"]) == 2
    assert (
        capsys.readouterr().err
        == "error: the vocabulary of scripted has no line end to start from: give a --prompt\n"
    )


def test_what_lies_beyond_the_context_is_said(language_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(language_run), "--prompt", "the cat sat on the mat", "--max-new-tokens", "3"])
    first, second, _ = capsys.readouterr().err.splitlines()
    assert re.search(r"prompt 1 has 22 tokens, but .* has context length 16: it reads the last 16", first)
    assert re.search(r"has context length 16: when a text is longer, its older half is forgotten", second)
    main([str(language_run), "--prompt", "the ", "--max-new-tokens", "12"])
    assert "context length" not in capsys.readouterr().err


def test_a_chat_model_is_asked_through_its_format(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scripted: Callable[..., LoadedModel]
) -> None:
    model = scripted("Paris.", stop_ids=[ord(".")], chat=lambda message: [len(message) % 1])
    monkeypatch.setattr("experiments.sample.__main__.open_language_model", lambda *_, **__: model)
    assert main(["any", "--chat", "What is the capital of France?"]) == 0
    assert capsys.readouterr().out == "Paris\n"
    assert main(["any", "--chat", "Which?", "--chat", "Where?"]) == 0
    assert capsys.readouterr().out == "── 1 of 2: Which? ──\nParis\n── 2 of 2: Where? ──\nParis\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--prompt", "the Ω€"],
            r"--prompt 'the Ω€': the text has characters that the vocabulary lacks: 'Ω', '€'",
        ),
        (["--prompt", ""], "--prompt is empty"),
        (["--chat", "Who?"], "has no chat template that the suite knows; continue a text with --prompt"),
        (["--chat", "Who?", "--prompt", "the"], "give one of them"),
        (
            ["--temperature", "-1"],
            r"temperature = -1.0 \(the command line\) is not allowed; allowed: a number ≥ 0",
        ),
        (["--top-k", "0"], r"top_k = 0 .*allowed: an integer"),
        (["--top-p", "0"], r"top_p = 0.0 .*allowed: a number > 0"),
        (["--min-p", "1.5"], r"min_p = 1.5 .*allowed"),
        (["--repetition-penalty", "0"], r"repetition_penalty = 0.0 .*allowed"),
        (["--max-new-tokens", "0"], r"max_new_tokens = 0 .*allowed: an integer ≥ 1"),
        (["--samples", "0"], "--samples 0: allowed are integers ≥ 1"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    language_run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(language_run), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert re.search(message, printed.err), printed.err


def test_the_command_line_is_checked_before_torch_is_imported() -> None:
    program = (
        "import sys\nfrom experiments.sample.__main__ import main\nassert main(['nowhere.ckpt']) == 2\n"
        "assert main(['nowhere.ckpt', '--top-k', '0']) == 2\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "python -m experiments.sample" in done.stdout
    assert "there is no checkpoint nowhere.ckpt" in done.stderr
