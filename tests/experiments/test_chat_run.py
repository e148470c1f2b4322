"""Fine-tuning on conversations: a model that answers afterwards, and files that it can't learn from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.errors import UserError
from experiments.evaluate.on_data import evaluate
from experiments.language_models.opening import open_language_model
from experiments.sample.__main__ import main as sample_main
from tests.chat_templates import TEMPLATES


def test_a_model_is_tuned_on_conversations_and_answers(
    chat_file: Path,
    write_llama: Callable[..., Path],
    language_settings: dict[str, Any],
    work: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_llama(work / "llama", max_position_embeddings=300)
    (folder / "chat_template.jinja").write_text(TEMPLATES["chatml"])
    data = {"name": "chat", "path": str(chat_file), "context_length": 200, "batch_size": 4}
    settings = {**language_settings, "model": {"name": "language_model"}, "data": data}
    settings["optimizer"] = {"name": "adamw", "lr": 0.01}
    lora = {"adapter": {"name": "lora", "rank": 2}}
    for more in ({}, lora):
        run = experiments.run(settings, more, f"model.init_from={folder}", "trainer.max_epochs=1")
        model = open_language_model(str(run.run_dir))
        assert model.chat is not None
        assert model.tokenizer.decode(model.chat("Hi")).endswith(
            "user\nHi<|im_end|>\n<|im_start|>assistant\n"
        )
    capsys.readouterr()
    assert sample_main([str(run.run_dir), "--chat", "say 3", "--max-new-tokens", "3"]) == 0


@pytest.mark.slow
def test_the_format_is_that_of_the_model_from_its_start_to_a_resumed_run(
    chat_file: Path, write_llama: Callable[..., Path], language_settings: dict[str, Any], work: Path
) -> None:
    """A model without a known format is refused, unless the config names one."""
    folder = write_llama(work / "llama", max_position_embeddings=300)
    data = {"name": "chat", "path": str(chat_file), "context_length": 200, "batch_size": 4}
    settings = {**language_settings, "model": {"name": "language_model", "init_from": str(folder)}}
    settings |= {"data": data, "optimizer": {"name": "sgd", "lr": 1e-30}, "trainer.max_epochs": 1}
    lora = {"adapter": {"name": "lora", "rank": 2}}
    smollm3 = "{{ 'Knowledge Cutoff Date: June 2025\\n' }}"
    no_template, not_known = (
        "no chat template, or an unknown one",
        "the chat template of SmolLM3, which isn't",
    )
    for template, found in (("", no_template), ("{{ messages }}", no_template), (smollm3, not_known)):
        (folder / "chat_template.jinja").write_text(template)
        with pytest.raises(UserError, match=rf"data\.template: .*llama has {found}.* smollm2, chatml"):
            experiments.run(settings)
    named = experiments.run(settings, "data.template=chatml", "run_dir=named")
    assert named.module.info.chat_template == "chatml"
    (folder / "chat_template.jinja").write_text(TEMPLATES["smollm2"])
    assert experiments.run(settings, "data.template=chatml").module.info.chat_template == "chatml"
    for name, more in (("whole", {}), ("adapted", lora)):
        run = experiments.run(settings, more, f"run_dir={name}")
        assert run.module.info.chat_template == "smollm2"
        assert evaluate(name)["test/loss"] == pytest.approx(run.metrics["test/loss"])
        (folder / "chat_template.jinja").rename("aside")  # a resumed run keeps its format
        further = experiments.run(settings, more, f"run_dir={name}", "resume=auto", "trainer.max_epochs=2")
        assert further.module.info.chat_template == "smollm2"
        Path("aside").rename(folder / "chat_template.jinja")
        with pytest.raises(UserError, match=r"data\.template = 'chatml' \(the run has 'smollm2'\)"):
            experiments.run(settings, more, f"run_dir={name}", "resume=auto", "data.template=chatml")
    again = experiments.run(settings, "model.init_from=named")
    assert again.module.info.chat_template == "chatml"


def test_a_new_model_learns_chatml(chat_file: Path, language_settings: dict[str, Any], work: Path) -> None:
    data = {"name": "chat", "path": str(chat_file)}
    run = experiments.run({**language_settings, "data": data}, "trainer.max_epochs=1", "run_dir=new")
    assert run.module.info.chat_template == "chatml"
    further = experiments.run(
        {**language_settings, "data": data}, "run_dir=new", "resume=auto", "trainer.max_epochs=2"
    )
    assert further.metrics["epochs"] == 2
    assert open_language_model("new").chat is not None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path": "gone.jsonl"}, "gone.jsonl"),
        ({"val_fraction": 0.01, "test_fraction": 0.01}, "too few for three splits"),
        ({"context_length": 4}, "no answer of the train split begins within context_length 4"),
        ({"tokenizer": {"kind": "byte"}}, "lacks the special token"),
        (
            {"template": "llama3"},
            r"lacks the special token <\|begin_of_text\|>; set .*data.tokenizer.special_tokens: \[.*eot_id",
        ),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "sum must be below 1"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    chat_file: Path, language_settings: dict[str, Any], work: Path, settings: dict[str, Any], said: str
) -> None:
    data = {"name": "chat", "path": str(chat_file), **settings}
    with pytest.raises(UserError, match=said) as caught:
        experiments.run({**language_settings, "data": data})
    assert "\n" not in str(caught.value)


def test_a_recurrent_network_learns_no_conversations(
    chat_file: Path, language_settings: dict[str, Any], work: Path
) -> None:
    data = {"name": "chat", "path": str(chat_file)}
    with pytest.raises(
        UserError, match="char_rnn can't learn conversations; choose the model language_model"
    ):
        experiments.run({**language_settings, "model": {"name": "char_rnn"}, "data": data})
