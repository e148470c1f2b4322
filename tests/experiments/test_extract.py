from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.extract import main, read_layers


def test_the_command_writes_once_and_says_what(
    language_run: Path, animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "states.safetensors", animals
    (folder / "templates.csv").write_text(
        "families,split,template\n*,seen,{topic}\n*,unseen,a {topic}\n", encoding="utf-8"
    )
    (folder / "completions.csv").write_text(
        (folder / "completions.csv").read_text(encoding="utf-8").replace("on the mat", "mat"),
        encoding="utf-8",
    )
    arguments = [str(language_run), str(folder), "--layers", "1", "--output", str(path)]
    status = main([*arguments, "--batch-size", "5"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert "states.safetensors written" in printed.out
    assert "layers: 1" in printed.out
    assert main(arguments) == 0
    assert "states.safetensors is up to date" in capsys.readouterr().out
    assert main([*arguments[:1], str(tmp_path / "absent"), *arguments[2:]]) == 2
    assert "there is no prompt set" in capsys.readouterr().err
    assert main([*arguments, "--batch-size", "0"]) == 2
    assert "--batch-size 0 must be at least 1" in capsys.readouterr().err


def test_layers_are_read_as_a_list() -> None:
    assert read_layers("3, 1,20") == [3, 1, 20]
    for text in ("", "1,", "1,1", "a", "-1", "1.5"):
        with pytest.raises(UserError, match="give different layers separated by commas"):
            read_layers(text)


def test_the_nearest_model_and_prompt_set_are_suggested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ["--layers", "1", "--output", str(tmp_path / "x.safetensors")]
    assert main(["smolm2", "referral", *rest]) == 2
    assert "did you mean smollm2?" in capsys.readouterr().err
    assert main(["smollm2", "referal", *rest]) == 2
    assert "did you mean referral?" in capsys.readouterr().err
