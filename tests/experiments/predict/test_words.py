"""Words are answered as the model's own beam search has it, and what it can't read is named."""

import json
import math
from pathlib import Path

import pytest
import torch

import experiments
from experiments.errors import UserError
from experiments.predict.__main__ import main
from experiments.predict.words import predict_words, spell
from experiments.training.build import Restored, restore
from experiments.training.checkpoint_path import open_checkpoint
from lit_modules.generation.beam_search import beam_search
from lit_modules.generation.special_tokens import BOS, EOS, PAD
from lit_modules.generation.two_way_search import two_way_search

LETTERS = ("<pad>", "<bos>", "<eos>", "'", "a", "b", "é", "Z")


def load_model(checkpoint: Path) -> Restored:
    path, saved = open_checkpoint(checkpoint)
    return restore(saved, path)


def fit(run_dir: Path, **model: str) -> Path:
    settings = {
        "model": {"name": "seq2seq", "depth": 1, "width": 16, "num_heads": 2, "length_penalty": 0.5} | model,
        "data": {"name": "digit_sequences", "max_length": 4, "train_size": 600, "val_size": 20}
        | {"test_size": 20, "batch_size": 20},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "dashboard": False, "progress_bar": False},
        "run_dir": str(run_dir),
    }
    return experiments.run(settings).run_dir


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("runs") / "reverse")


def test_answers_are_those_of_the_beam_search(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["12", "9", "0412"]
    assert main([str(run_dir), "--json", "--n-best", "2", "--beam-size", "4", *words]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["word"] for record in records] == words
    model = load_model(run_dir)
    network = model.module.network
    for record in records:
        source = torch.tensor([[3 + int(digit) for digit in record["word"]] + [EOS]])
        found = beam_search(network, source, beam_size=4, max_length=5, length_penalty=0.5, n_best=2)
        for answer, tokens, score in zip(
            record["answers"], found.tokens[0].tolist(), found.scores[0].tolist(), strict=True
        ):
            written = [token for token in tokens if token != PAD]
            text = "".join(str(token - 3) for token in written if token != EOS)
            assert answer["text"] == (text if EOS in written else f"{text} …")
            assert answer["score"] == pytest.approx(score, rel=1e-4)
            with torch.no_grad():
                log_probs = network(source, torch.tensor([[BOS, *written[:-1]]]))[0].log_softmax(-1)
            total = sum(float(log_probs[t, token]) for t, token in enumerate(written))
            assert answer["probability"] == pytest.approx(math.exp(total), rel=1e-4)


def test_a_network_that_writes_from_both_ends_is_searched_from_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = fit(tmp_path / "both", directions="both")
    capsys.readouterr()
    assert main([str(run_dir), "--json", "--n-best", "2", "--beam-size", "4", "0412"]) == 0
    (record,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    network = load_model(run_dir).module.network
    source = torch.tensor([[3, 7, 4, 5, EOS]])
    found = two_way_search(network, source, beam_size=4, max_length=5, length_penalty=0.5, n_best=2)
    for answer, tokens, score in zip(
        record["answers"], found.tokens[0].tolist(), found.scores[0].tolist(), strict=True
    ):
        digits = [token - 3 for token in tokens if token > EOS]
        assert answer["text"] == "".join(map(str, digits)) + ("" if EOS in tokens else " …")
        assert answer["score"] == pytest.approx(score, rel=1e-4)
        length = sum(token != PAD for token in tokens)
        assert answer["probability"] == pytest.approx(math.exp(score * length**0.5), rel=1e-4)


def test_lines_and_json_say_the_same(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_dir), "12", "907"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main([str(run_dir), "--json", "12", "907"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(record["answers"]) for record in records] == [3, 3]
    expected = []
    for record in records:
        for place, answer in enumerate(record["answers"]):
            name = [record["word"]] if place == 0 else []
            score, probability = f"{answer['score']:.4f}", f"{answer['probability']:.1%}"
            expected.append([*name, *answer["text"].split(), score, probability])
    assert [line.split() for line in lines] == expected


def test_unknown_characters_are_reported_by_name(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_dir), "12", "907"]) == 0
    expected = capsys.readouterr().out
    assert main([str(run_dir), "12", "1½ ½\x07", "907"]) == 1
    printed = capsys.readouterr()
    assert printed.out == expected
    assert printed.err == (
        "error: '1½ ½\\x07': the model does not know U+00BD VULGAR FRACTION ONE HALF, U+0020 SPACE, U+0007 "
        "without a name; it knows 0 1 2 3 4 5 6 7 8 9\n"
    )


def test_a_word_may_be_the_only_one_that_is_unknown(run_dir: Path) -> None:
    (error,) = predict_words(load_model(run_dir), ["½"])
    assert isinstance(error, UserError)


def test_other_apostrophes_and_hyphens_are_tried() -> None:
    assert [spell(c, LETTERS, 9) for c in "'’ʼ＇"] == [[3, EOS]] * 4
    curly = ("<pad>", "<bos>", "<eos>", "’", "-")
    assert [spell(c, curly, 9) for c in "'’-‐‑"] == [[3, EOS]] * 2 + [[4, EOS]] * 3
    with pytest.raises(UserError, match=r"U\+2014 EM DASH"):
        spell("a—", LETTERS, 9)


def test_a_character_is_tried_in_the_other_case_and_composed() -> None:
    assert spell("Ab'A", LETTERS, 9) == [4, 5, 3, 4, EOS]
    assert spell("z", LETTERS, 9) == [7, EOS]
    assert spell("E\u0301", LETTERS, 9) == [6, EOS]


@pytest.mark.parametrize("arguments", [["12345"], [""]])
def test_words_longer_or_shorter_than_any_of_the_training_are_refused(
    run_dir: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_dir), *arguments]) == 1
    expected = f"has {len(arguments[0])} characters; the model was trained on 1 to 4"
    assert expected in capsys.readouterr().err


def test_more_answers_than_hypotheses_are_refused(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_dir), "12", "--n-best", "4", "--beam-size", "2"]) == 2
    assert "--n-best 4, --beam-size 2: expected 1 ≤ n-best ≤ beam-size" in capsys.readouterr().err
    assert main([str(run_dir), "12", "--n-best", "7"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7
    assert main([str(run_dir), "12", "--beam-size", "0"]) == 2
    assert "--beam-size 0: expected" in capsys.readouterr().err


def test_a_beam_narrower_than_the_usual_answers_gives_what_it_has(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_dir), "12", "--beam-size", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_answer_that_was_cut_says_so(run_dir: Path) -> None:
    model = load_model(run_dir)
    with torch.no_grad():  # a network that never ends
        embedding, norm = (
            model.module.network.target_embedding.weight,
            model.module.network.decoder.final_norm,
        )
        embedding[7] *= 10.0  # the digit 4
        norm.weight.zero_()
        norm.bias.copy_(embedding[7])
    (prediction,) = predict_words(model, ["12"], n_best=1)
    assert prediction.record["answers"][0]["text"] == "44444 …"


def test_the_special_tokens_are_no_characters() -> None:
    with pytest.raises(UserError, match=r"U\+003C LESS-THAN SIGN"):
        spell("<eos>", LETTERS, 9)
