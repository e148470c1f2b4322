"""The whole chain on a tiny model: the order of stages, checks before anything runs, and resuming."""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import experiments
from experiments.config.check import load_config
from experiments.errors import Interrupted, UserError
from experiments.steering.chain import read_choice
from experiments.studies import stages
from experiments.studies.dry_run import dry_run
from experiments.studies.tasks import Stage
from experiments.training.run_directory import read_metrics


@pytest.mark.slow
def test_tensorboard_shows_what_each_stage_left(chain_run: Path) -> None:
    shown = {}
    for stage in ("choose", "test", "generate"):
        events = EventAccumulator(str(chain_run / stage / "tensorboard"))
        events.Reload()
        tags = events.Tags()
        shown[stage] = {*tags["images"], *(tag.removesuffix("/text_summary") for tag in tags["tensors"])}
    assert shown == {
        "choose": {"alphas", "layers", "projection"},
        "test": {"table"},
        "generate": {"samples", "table"},
    }


@pytest.mark.slow
def test_a_cut_chain_goes_on_where_it_was(
    chain_run: Path, chain_settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {stage: read_metrics(chain_run / stage) for stage in ("test", "generate")}
    (chain_run / "test" / "metrics.json").unlink()
    (chain_run / "generate" / "metrics.json").write_text("{")
    experiments.run({**chain_settings, "run_dir": str(chain_run), "resume": "auto"})
    said = capsys.readouterr().out
    assert f"{chain_run / 'extract'} is finished" in said
    assert f"{chain_run / 'choose'} is finished" in said
    (chain_run / "generate" / "metrics.json.damaged").unlink()
    for stage, found in before.items():
        assert read_metrics(chain_run / stage) == pytest.approx(found, rel=1e-4, abs=1e-6, nan_ok=True)


@pytest.mark.slow
def test_what_was_found_with_networks_that_are_trained_further_is_found_again(
    chain_settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = {name: chain_settings["stages"][name] for name in ("extract", "train_0", "choose")}
    short = {**chain_settings, "stages": stages, "run_dir": str(tmp_path / "chain")}
    first = experiments.run(short).metrics
    longer = {**short, "trainer": {**short["trainer"], "max_epochs": 6}, "resume": "auto"}
    again = experiments.run(longer).metrics
    said = capsys.readouterr().out
    assert f"{tmp_path / 'chain' / 'extract'} is finished" in said
    assert f"{tmp_path / 'chain' / 'choose'} is finished" not in said
    assert again["val/train_0/l2s/margin"] != first["val/train_0/l2s/margin"]
    experiments.run(longer)
    assert f"{tmp_path / 'chain' / 'choose'} is finished" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"\xff"])
def test_a_lost_choice_says_how_to_choose_again(
    content: bytes | None, chain_settings: dict[str, Any], tmp_path: Path
) -> None:
    children = load_config(chain_settings).children
    stages = {child.path: Stage(child.config, tmp_path / child.path) for child in children}
    (tmp_path / "choose").mkdir()
    if content is not None:
        (tmp_path / "choose" / "choice.json").write_bytes(content)
    with pytest.raises(UserError, match=r"choice\.json is missing or damaged: .*choose/metrics\.json"):
        read_choice(stages)


def test_whoever_stops_a_task_is_told_to_continue_the_chain(
    chain_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: Any) -> None:
        raise Interrupted(signal.SIGINT, tmp_path / "chain" / "extract" / "seed_1", None)

    monkeypatch.setattr(stages, "run_task", stopped)
    with pytest.raises(Interrupted) as error:
        experiments.run({**chain_settings, "run_dir": str(tmp_path / "chain")})
    assert error.value.run_dir == tmp_path / "chain"


def test_a_first_task_that_is_refused_leaves_nothing(chain_settings: dict[str, Any], tmp_path: Path) -> None:
    task = {**chain_settings["stages"]["extract"]["task"], "language_model": str(tmp_path / "missing")}
    stages = {"extract": {"task": task}, "train_0": {}}
    with pytest.raises(UserError, match="missing"):
        experiments.run({**chain_settings, "stages": stages, "run_dir": str(tmp_path / "chain")})
    assert not (tmp_path / "chain").exists()


@pytest.mark.parametrize(
    ("key", "wrong", "right"), [("task.layers", [9], [1]), ("trainer.monitor", "val/nothing", "val/loss")]
)
def test_a_later_stage_that_is_refused_leaves_nothing_and_the_corrected_chain_goes_on(
    key: str, wrong: Any, right: Any, chain_settings: dict[str, Any], tmp_path: Path
) -> None:
    extract = chain_settings["stages"]["extract"]
    second = extract if key.startswith("task") else {}
    some = {**chain_settings, "run_dir": str(tmp_path / "chain")}

    def run(value: Any, **more: Any) -> None:
        experiments.run({**some, **more, "stages": {"extract": extract, "second": second | {key: value}}})

    with pytest.raises(UserError, match=r"layer 9 is out of range|'val/nothing' is not logged"):
        run(wrong)
    assert not (tmp_path / "chain" / "second").exists()
    run(right, resume="auto")
    assert (tmp_path / "chain" / "second" / "metrics.json").exists()


def test_a_chain_is_tried_without_being_run(
    chain_settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    dry_run(load_config(chain_settings))
    said = capsys.readouterr().out
    assert "the prerequisites of steering_extract exist" in said
    assert "its data exists only after the stage extract" in said


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (["choose"], "stages.choose: no earlier stage extracts hidden states"),
        (["extract", "choose"], "stages.choose: no earlier stage trains on extracted layers"),
        (
            ["extract", "train_0", "test"],
            "stages.test: no earlier stage chooses",
        ),
        (["extract", "train_0", "generate"], "stages.generate: no earlier stage chooses"),
        (
            ["train_0", "extract"],
            r"stages.train_0.data.from_stage = 'extract': not an earlier stage that writes data",
        ),
    ],
)
def test_refuses_stages_in_the_wrong_order(
    stages: list[str], said: str, chain_settings: dict[str, Any], tmp_path: Path
) -> None:
    some = {**chain_settings, "stages": {name: chain_settings["stages"][name] for name in stages}}
    with pytest.raises(UserError, match=said):
        experiments.run({**some, "run_dir": str(tmp_path / "chain")})
    assert not (tmp_path / "chain").exists()


def test_refuses_data_of_a_stage_that_leaves_none(chain_settings: dict[str, Any], tmp_path: Path) -> None:
    stages = {
        "extract": chain_settings["stages"]["extract"],
        "train_0": {},
        "train_1": {"data": {"from_stage": "train_0"}},
    }
    settings = {**chain_settings, "stages": stages, "run_dir": str(tmp_path / "chain")}
    with pytest.raises(UserError, match=r"train_1\.data\.from_stage = 'train_0': not .* allowed: extract"):
        experiments.run(settings)


def test_a_path_that_names_a_stage_is_refused_with_advice(
    chain_settings: dict[str, Any], tmp_path: Path
) -> None:
    data = {**chain_settings["data"], "path": "extract", "from_stage": None}
    settings = {**chain_settings, "data": data, "run_dir": str(tmp_path / "chain")}
    said = r"data\.path = 'extract' is a stage; write data\.from_stage: extract"
    with pytest.raises(UserError, match=said):
        experiments.run(settings)
    with pytest.raises(UserError, match=said):
        dry_run(load_config(settings))


def test_data_of_a_stage_needs_a_chain(chain_settings: dict[str, Any], tmp_path: Path) -> None:
    alone = {key: value for key, value in chain_settings.items() if key != "stages"}
    with pytest.raises(UserError, match=r"data\.from_stage: extract works only in a chain of stages"):
        experiments.run({**alone, "run_dir": str(tmp_path / "run")})


@pytest.mark.parametrize("key", ["input_layer", "target_layer"])
def test_refuses_a_layer_that_is_not_extracted_before_anything_is_run(
    key: str, chain_settings: dict[str, Any], tmp_path: Path
) -> None:
    stages = {**chain_settings["stages"], "train_1": {"data": {key: 2}}}
    settings = {**chain_settings, "stages": stages, "run_dir": str(tmp_path / "chain")}
    said = rf"stages\.choose: stage train_1: data\.{key} is 2, but task\.layers has only 0, 1; choose one"
    with pytest.raises(UserError, match=said):
        experiments.run(settings)
    assert not (tmp_path / "chain").exists()
    with pytest.raises(UserError, match=said):
        dry_run(load_config(settings))


def test_refuses_low_rank_updates_of_another_model(chain_settings: dict[str, Any], tmp_path: Path) -> None:
    lora = {**chain_settings["stages"]["lora"], "model": {"name": "language_model", "init_from": "smollm2"}}
    settings = {**chain_settings, "stages": {**chain_settings["stages"], "lora": lora}}
    said = (
        r"stages\.choose: stage lora: model\.init_from is smollm2, but the hidden states are those of .*llama"
    )
    with pytest.raises(UserError, match=said):
        experiments.run({**settings, "run_dir": str(tmp_path / "chain")})
    assert not (tmp_path / "chain").exists()


def test_refuses_a_task_outside_a_chain(chain_settings: dict[str, Any], tmp_path: Path) -> None:
    alone = {**chain_settings, "task": {"name": "steering_choose"}, "run_dir": str(tmp_path / "run")}
    with pytest.raises(UserError, match=r"task \(.*\): a task belongs inside one of the stages"):
        load_config(alone)
    del alone["stages"]
    with pytest.raises(UserError, match="task steering_choose: a task is one of the stages of a chain"):
        experiments.run(alone)


def test_a_wrong_prompt_line_stops_a_chain_that_is_only_tried(
    chain_settings: dict[str, Any], tmp_path: Path
) -> None:
    source = Path(chain_settings["stages"]["extract"]["task"]["prompts"])
    folder = shutil.copytree(source, tmp_path / "prompts")
    with (folder / "topics.csv").open("a") as file:
        file.write("skin,train,a mole\n")
    extract = {**chain_settings["stages"]["extract"]["task"], "prompts": str(folder)}
    with pytest.raises(UserError, match=r"topics\.csv:30: 3 fields, expected 4"):
        dry_run(load_config({**chain_settings, "stages": {"extract": {"task": extract}}}))


def test_a_task_has_no_weights_to_start_from(chain_settings: dict[str, Any], tmp_path: Path) -> None:
    stages = {"extract": chain_settings["stages"]["extract"], "train_0": {"model": {"init_from": "extract"}}}
    with pytest.raises(UserError, match=r"init_from = 'extract': that stage is a task and has no checkpoint"):
        experiments.run({**chain_settings, "stages": stages, "run_dir": str(tmp_path / "chain")})
    assert not (tmp_path / "chain").exists()
