"""The dashboards of a transformer and a recurrent network, as TensorBoard reads them."""

import io
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

import experiments
from datamodules.tokenizers import CharacterTokenizer
from experiments.callbacks import language_dashboard
from experiments.callbacks.language_dashboard import LanguageDashboard, attention_maps, visible, written
from experiments.callbacks.tensorboard import TRAINING
from experiments.training.curve_file import read_curve_rows
from lit_modules.configs.generation import SamplingConfig
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.generation.generate import generate
from lit_modules.networks.transformer_lm import TransformerLM


def read(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def texts(events: EventAccumulator, tag: str) -> dict[int, str]:
    found = events.Tensors(f"{tag}/text_summary")
    return {event.step: event.tensor_proto.string_val[0].decode() for event in found}


def scalars(events: EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in events.Scalars(tag)}


@pytest.fixture(scope="module")
def run(language_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fit of three epochs with the dashboard on, and an average of the weights."""
    trainer = {**language_settings["trainer"], "dashboard": True, "max_epochs": 3, "ema_decay": 0.5}
    run_dir = tmp_path_factory.mktemp("runs") / "language"
    return experiments.run({**language_settings, "trainer": trainer, "run_dir": str(run_dir)})


@pytest.mark.slow
def test_the_page_opens_on_what_matters(run: Any) -> None:
    (event,) = read(run.run_dir).Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    charts = {(c.title, chart.title): chart.multiline.tag for c in layout.category for chart in c.chart}
    assert list(charts)[:2] == [(TRAINING, "loss, training"), (TRAINING, "loss, validation")]
    assert [title for section, title in charts if section == "language model"] == [
        "perplexity, training",
        "perplexity, validation",
        "bits per byte, validation",
        "model FLOP utilisation",
    ]
    tags = read(run.run_dir).Tags()["scalars"]
    for title, patterns in charts.items():
        assert any(re.match(pattern, tag) for pattern in patterns for tag in tags), title


def test_perplexity_and_utilisation_go_with_the_curve(run: Any) -> None:
    events = read(run.run_dir)
    logged: dict[str, dict[int, float]] = {}
    for step, _, name, value in read_curve_rows(run.run_dir / "metrics.csv"):
        logged.setdefault(name, {})[int(step)] = float(value)
    losses, rates = logged["train/loss"], logged["train/tokens_per_second"]
    assert list(losses) == [2, 4, 6, 8, 10, 12, 14]
    perplexities, shares = scalars(events, "train/perplexity"), scalars(events, "train/flop_utilisation")
    assert perplexities == {step: pytest.approx(math.exp(loss), rel=1e-4) for step, loss in losses.items()}
    for name, shown in {"train/perplexity": perplexities, "train/flop_utilisation": shares}.items():
        assert logged[name] == {step: pytest.approx(value, rel=1e-6) for step, value in shown.items()}
    # All shares are of one peak: utilisation is in proportion to the tokens per second.
    ratio = shares[2] / rates[2]
    assert shares == {step: pytest.approx(ratio * rate, rel=1e-3) for step, rate in rates.items()}
    assert 0 < max(shares.values()) < 1
    (said,) = texts(events, "machine/peak").values()
    assert "FLOP/s: the best product of two large float32 matrices on cpu" in said


def test_samples_go_on_from_the_validation_text_with_the_averaged_weights(
    run: Any, language_text: str
) -> None:
    shown = texts(read(run.run_dir), "samples")
    assert list(shown) == [5, 10, 15]
    prompt = language_text[round(0.75 * len(language_text)) :][:32]
    assert len(set(shown.values())) == 3
    for text in shown.values():
        assert text.count("▌") == 4  # in the headings and in the texts
        assert text.replace("\n    ", "\n").count(prompt + "▌") == 2
    # The last ones are what the trained module gives.
    module = experiments.training.build.restore(*_last(run.run_dir)).module
    ids = _tokenizer(module).encode(prompt)
    assert shown[15].strip() == written(module.network, _tokenizer(module), ids).strip()


def _last(run_dir: Path) -> tuple[Any, Path]:
    path = run_dir / "checkpoints" / "last.ckpt"
    return experiments.training.checkpoint.load(path), path


def _tokenizer(module: Any) -> Any:
    from datamodules.tokenizers import tokenizer_from_dict

    return tokenizer_from_dict(module.info.tokenizer)


def test_attention_is_drawn_with_the_samples(run: Any) -> None:
    events = read(run.run_dir)
    assert set(events.Tags()["images"]) == {"attention/heads", "attention/last_layer"}
    for tag in events.Tags()["images"]:
        found = events.Images(tag)
        assert [event.step for event in found] == [5, 10, 15]
        pictures = [Image.open(io.BytesIO(event.encoded_image_string)) for event in found]
        assert len({picture.tobytes() for picture in pictures}) == 3
        assert pictures[0].size >= (300, 100)


def test_a_recurrent_model_has_the_same_dashboard_but_attention(
    language_settings: dict[str, Any], work: Path
) -> None:
    settings = {
        **language_settings,
        "model": {"name": "char_rnn", "hidden": 8, "carry_state": False},
        "trainer": {**language_settings["trainer"], "dashboard": True},
    }
    events = read(experiments.run(settings).run_dir)
    assert list(texts(events, "samples")) == [5, 10]
    assert events.Tags()["images"] == []
    assert {"train/perplexity", "train/flop_utilisation", "val/perplexity"} <= set(events.Tags()["scalars"])


@pytest.mark.slow
def test_a_long_fit_is_drawn_ten_times_and_at_its_end(
    language_settings: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_dashboard, "NEW_TOKENS", 2)
    trainer = {
        **language_settings["trainer"],
        "dashboard": True,
        "max_epochs": 7,
        "check_val_every_n_steps": 1,
    }
    run_dir = experiments.run({**language_settings, "trainer": trainer}).run_dir
    assert list(texts(read(run_dir), "samples")) == [4, 7, 11, 14, 18, 21, 25, 28, 32, 35]
    trainer |= {"max_epochs": 1, "check_val_every_n_steps": 2, "max_steps": 3}
    run_dir = experiments.run({**language_settings, "trainer": trainer}).run_dir
    assert list(texts(read(run_dir), "samples")) == [2, 3]


def test_drawing_leaves_the_run_as_it_is(run: Any, language_settings: dict[str, Any], tmp_path: Path) -> None:
    trainer = {**language_settings["trainer"], "max_epochs": 3, "ema_decay": 0.5}
    plain = experiments.run({**language_settings, "trainer": trainer, "run_dir": str(tmp_path / "plain")})
    for name, tensor in plain.module.state_dict().items():
        assert torch.equal(tensor, run.module.state_dict()[name]), name


def test_samples_keep_their_line_ends_and_show_where_they_begin() -> None:
    tokenizer = CharacterTokenizer("\n ab")
    torch.manual_seed(0)
    config = LanguageModelConfig(depth=1, width=8, num_heads=1)
    network = TransformerLM(config, vocab_size=4, context_length=300).eval()
    text = written(network, tokenizer, [2, 3, 0, 2])
    settings = SamplingConfig(temperature=0.8, max_new_tokens=160)
    for seed, row in enumerate(generate(network, [[2, 3, 0, 2]] * 2, settings, seeds=[0, 1])):
        assert f"temperature 0.8, seed {seed}, from ▌ on\n\n    ab\n    a▌" in text
        lines = ("ab\na▌" + tokenizer.decode(row)).split("\n")
        assert "".join(f"    {line}\n" for line in lines) in text


@pytest.mark.parametrize("position", ["learned", "rotary"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_maps_are_the_weights_that_attention_uses(position: Any, norm_first: bool) -> None:
    """Recomputed from each layer's real input, caught by a hook: the output's share of values agrees."""
    torch.manual_seed(0)
    config = LanguageModelConfig(
        depth=2, width=16, num_heads=4, num_kv_heads=2, position=position, norm_first=norm_first, qk_norm=True
    )
    network = TransformerLM(config, vocab_size=9, context_length=12).eval()
    inputs: list[torch.Tensor] = []
    for layer in network.trunk.layers:
        layer.attention.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    tokens = torch.tensor([1, 2, 3, 8, 1])
    maps = attention_maps(network, tokens)
    assert maps.shape == (2, 4, 5, 5)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 4, 5))
    assert (maps.triu(1) == 0).all()
    for layer, own, x in zip(network.trunk.layers, maps, list(inputs), strict=True):
        values = layer.attention.value(x).unflatten(-1, (2, 4)).transpose(1, 2).repeat_interleave(2, dim=1)
        mixed = (own.unsqueeze(0) @ values).transpose(1, 2).flatten(2)
        torch.testing.assert_close(layer.attention.output(mixed), layer.attention(x), rtol=1e-4, atol=1e-6)


def test_what_would_not_be_seen_is_shown_by_signs() -> None:
    assert visible("a b\n\tc") == "a␣b⏎⇥c"


def test_a_part_that_ended_between_a_validation_and_a_kill_is_drawn_after_the_resume(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over, drawn = [3], list[int]()
    monkeypatch.setattr(language_dashboard, "parts_over", lambda *_: over[0])
    monkeypatch.setattr(language_dashboard, "writer", lambda _: None)
    trainer: Any = SimpleNamespace(
        sanity_checking=False, state=SimpleNamespace(fn="fit"), callbacks=[], is_global_zero=False
    )
    state: dict[str, Any] = {"drawn": 2, "undrawn": True}  # the third part has ended since
    module: Any = None
    for _ in range(2):
        dashboard = LanguageDashboard()
        dashboard.load_state_dict(state)
        monkeypatch.setattr(dashboard, "_draw", lambda *_: drawn.append(over[0]))
        dashboard.on_train_start(trainer, module)
        assert dashboard.state_dict() == state
        dashboard.on_validation_epoch_end(trainer, module)
        state = dashboard.state_dict()
    assert drawn == [3]
    over[0] = 1  # a longer trainer.max_epochs: the fit counts as less far
    dashboard.on_train_start(trainer, module)
    over[0] = 2
    dashboard.on_validation_epoch_end(trainer, module)
    assert drawn == [3, 2]
