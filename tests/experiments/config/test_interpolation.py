"""References find values and defaults; resolvers are refused however they are written."""

import random
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from experiments.config.check import load_config, to_yaml
from experiments.config.interpolation import References, literal
from experiments.config.sources import read_mapping
from experiments.errors import UserError

BASE: dict[str, Any] = {"model": {"name": "mlp"}, "data": {"name": "digits"}}
SECRET = "EXPERIMENTS_TEST_SECRET"


def test_references_resolve_as_omegaconf_resolves_them() -> None:
    """The oracle: OmegaConf itself, where nothing is a default."""
    values: dict[str, Any] = {
        "a": {"b": 1, "c": "${.b}", "d": "${..e.f}", "g": [1, "${a.b}", "${e.f}"]},
        "e": {"f": "text", "h": "${a}", "i": "x-${a.b}-${e.f}", "j": "${a.g[1]}", "k": "${a.g.2}"},
        "l": "${a.${m}}",
        "m": "b",
        "n": r"\${a.b} and \\${a.b}",
        "o": "${e.h.c}",
        "p": "${a[b]}",
    }
    references = References(read_mapping(values))
    expected = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    assert {key: references.resolve(key) for key in values} == expected


def test_a_reference_to_a_key_that_is_not_set_is_its_default() -> None:
    defaults = load_config(BASE)
    loaded = load_config(
        BASE,
        "data.split_seed=${trainer.max_epochs}",
        "trainer.monitor=${optimizer.name}/${data.augment.shift}",
        "optimizer.eps=${optimizer.lr}",
        "data.batch_size=${model.hidden[3]}",
    )
    assert loaded.data.config.split_seed == defaults.trainer.max_epochs
    assert loaded.trainer.monitor == "adamw/0"
    assert loaded.optimizer.config.eps == defaults.optimizer.config.lr
    assert loaded.data.config.batch_size == defaults.model.config.hidden[3]


@pytest.mark.parametrize(
    "text",
    [
        f"${{oc.env:{SECRET}}}",
        f"${{ oc.env : {SECRET} }}",
        f"${{oc.${{trainer.monitor}}:{SECRET}}}",
        f"${{${{name}}:{SECRET}}}",
        f"x${{a.${{oc.env:{SECRET}}}}}",
        f"${{oc.env:{SECRET},${{seed}}}}",
        f"\\\\${{oc.env:{SECRET}}}",
        "${oc.decode:'[1]'}",
        "${oc.create:{}}",
        "${:x}",
    ],
)
@pytest.mark.parametrize("place", ["file", "override", "saved", "stage", "variant", "list"])
def test_no_resolver_is_evaluated(text: str, place: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "s3cret")
    values: dict[str, Any] = {**BASE, "name": "oc.env", "trainer": {"monitor": "env"}}
    sources: list[Any] = [values]
    if place in ("file", "saved"):
        file = work / "config.yaml"
        file.write_text(to_yaml({**values, "run_dir": text}))
        sources = [file]
    elif place == "override":
        sources.append("run_dir='" + text.replace("'", "''") + "'")
    elif place == "stage":
        values["stages"] = {"a": {"data": {"batch_size": text}}}
    elif place == "variant":
        values["variants"] = {"a": {"trainer": {"accelerator": text}}}
    else:
        values["model"] = {"name": "mlp", "hidden": [8, text]}
    with pytest.raises(UserError) as caught:
        load_config(*sources)
    assert "s3cret" not in str(caught.value)


def test_resolved_texts_read_back_as_they_are() -> None:
    draw = random.Random(0)
    for _ in range(500):
        text = "".join(draw.choice(["\\", "$", "{", "}", "a", "${", "'", "."]) for _ in range(8))
        loaded = load_config(BASE, {"trainer": {"monitor": literal(text)}})
        assert loaded.trainer.monitor == text
        assert load_config(loaded.plain).plain == loaded.plain


def test_the_number_and_length_of_references_are_limited() -> None:
    for hidden in (["${seed}"] * 501, ["${seed}" * 200]):
        with pytest.raises(UserError, match="at most 500 references"):
            load_config(BASE, {"model": {"hidden": hidden}})
