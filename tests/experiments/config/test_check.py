"""A wrong input is a line or two and status 2; what is right merges, expands and reads back as written."""

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.config.check import load_config, to_yaml
from experiments.errors import UserError
from experiments.launch import main

HEAD = "model: {name: mlp}\ndata: {name: digits}\n"
BASE: dict[str, Any] = {"model": {"name": "mlp"}, "data": {"name": "digits"}}


@pytest.fixture
def refused(work: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that must be refused before anything happens; return what it said."""

    def run(*arguments: str) -> str:
        before = sorted(work.rglob("*"))
        assert main(list(arguments)) == 2
        out, err = capsys.readouterr()
        assert len(out.splitlines()) <= 1  # what was to run, where only the machine stands against it
        assert 1 <= len(err.splitlines()) <= 2, err
        assert "Traceback" not in err
        assert sorted(work.rglob("*")) == before
        return err

    return run


# Each: the file's text, overrides, and what the message must name: key, origin, what is allowed.
WRONG: dict[str, tuple[str, list[str], list[str]]] = {
    "YAML syntax": ("model: {name: mlp}\ndata: [1,\n", [], ["bad.yaml:3", "not valid YAML"]),
    "a tab": ("trainer:\n\tmax_epochs: 1\n", [], ["bad.yaml:2", "not valid YAML"]),
    "two documents": ("name: a\n---\nname: b\n", [], ["bad.yaml:2", "not valid YAML"]),
    "a tag": (f"{HEAD}name: !!python/object:os.system x\n", [], ["bad.yaml:3", "not valid YAML"]),
    "an anchor within itself": ("a: &a {b: *a}\n", [], ["bad.yaml", "contains itself"]),
    "no mapping": ("- 1\n", [], ["bad.yaml:1", "mapping of keys to values"]),
    "empty": ("", [], ["model.name is missing", "mlp"]),
    "duplicate key": (
        f"{HEAD}seed: 1\nname: a\nseed: 2\n",
        [],
        ["bad.yaml:5", "duplicate key seed", "line 3"],
    ),
    "duplicate nested key": (
        f"{HEAD}trainer:\n  max_epochs: 1\ntrainer.max_epochs: 2\n",
        [],
        ["bad.yaml:5", "duplicate key trainer.max_epochs", "line 4"],
    ),
    "unknown key": (
        f"{HEAD}trainer:\n  max_epoch: 1\n",
        [],
        ["trainer.max_epoch", "bad.yaml:4", "max_epochs?"],
    ),
    "unknown section": (f"{HEAD}trainers: {{}}\n", [], ["trainers", "bad.yaml:3", "trainer?", "--help"]),
    "unknown key by override": (HEAD, ["model.widht=3"], ["model.widht", "command line", "allowed in model"]),
    "an option of another optimizer": (
        f"{HEAD}optimizer: {{name: adam, momentum: 0.9}}\n",
        [],
        ["optimizer.momentum", "bad.yaml:3", "betas"],
    ),
    "wrong type": (
        f"{HEAD}trainer: {{max_epochs: ten}}\n",
        [],
        ["trainer.max_epochs = 'ten'", "bad.yaml:3", "an integer ≥ 1 or null"],
    ),
    "a fraction of an epoch": (
        HEAD,
        ["trainer.max_epochs=1.5"],
        ["trainer.max_epochs = 1.5", "command line", "an integer"],
    ),
    "a number for a switch": (HEAD, ["trainer.compile=1"], ["trainer.compile = 1", "true or false"]),
    "graphs that would overwrite gradients": (
        HEAD,
        ["trainer.compile=reduce-overhead", "trainer.accumulate_grad_batches=2"],
        ["reduce-overhead isn't possible with accumulate_grad_batches = 2", "use true"],
    ),
    "a switch for a number": (HEAD, ["data.batch_size=true"], ["data.batch_size = true", "an integer ≥ 1"]),
    "quoted number": (HEAD, ["data.batch_size='8'"], ["data.batch_size = '8'", "an integer ≥ 1"]),
    "a scalar for a list": (HEAD, ["model.hidden=8"], ["model.hidden = 8", "a list of integers ≥ 1"]),
    "a list with a wrong element": (HEAD, ["model.hidden=[8,0]"], ["model.hidden = [8, 0]", "≥ 1"]),
    "a scalar for a section": (HEAD, ["trainer=3"], ["trainer = 3", "mapping of keys to values"]),
    "false for a section": (
        HEAD,
        ["data.augment=false"],
        ["data.augment = false", "mapping of keys to values"],
    ),
    "an empty list for a section": (HEAD, ["optimizer=[]"], ["optimizer = []", "mapping of keys to values"]),
    "negative epochs": (
        f"{HEAD}trainer: {{max_epochs: -1}}\n",
        [],
        ["trainer.max_epochs = -1", "bad.yaml:3", "an integer ≥ 1 or null"],
    ),
    "batch of none": (
        f"{HEAD}data.batch_size: 0\n",
        [],
        ["data.batch_size = 0", "bad.yaml:3", "integer ≥ 1"],
    ),
    "probability above one": (HEAD, ["data.augment.flip=1.5"], ["data.augment.flip = 1.5", "≤ 1"]),
    "negative probability": (HEAD, ["model.dropout=-0.1"], ["model.dropout = -0.1", "≥ 0", "< 1"]),
    "rate of zero": (HEAD, ["optimizer.lr=0"], ["optimizer.lr = 0", "> 0"]),
    "infinite rate": (HEAD, ["optimizer.lr=.inf"], ["optimizer.lr = inf", "> 0"]),
    "negative seed": (HEAD, ["seed=-1"], ["seed = -1", "≥ 0"]),
    "seed beyond NumPy's": (HEAD, ["seed=4294967296"], ["seed = 4294967296", "≤ 4294967295"]),
    "two fields that disagree": (HEAD, ["optimizer.betas=[0.9]"], ["optimizer", "betas", "expected 2"]),
    "validation takes all": (
        HEAD,
        ["data.val_size=1437"],
        ["data", "val_size: 1437", "1437 training images"],
    ),
    "unknown model": (
        "model: {name: mpl}\ndata: {name: digits}\n",
        [],
        ["model.name", "bad.yaml:1", "mlp?", "residual_cnn"],
    ),
    "unknown data": (HEAD, ["data.name=mnits"], ["data.name", "command line", "mnist?", "digits"]),
    "unknown optimizer": (HEAD, ["optimizer.name=sdg"], ["optimizer.name", "sgd?", "adamw"]),
    "unknown schedule": (HEAD, ["schedule.name=cosin"], ["schedule.name", "one_cycle", "warmup_cosine"]),
    "unknown precision": (
        HEAD,
        ["trainer.precision=bf17"],
        ["trainer.precision = 'bf17'", "32-true", "bf16-mixed"],
    ),
    "unknown accelerator": (
        HEAD,
        ["trainer.accelerator=gpus"],
        ["trainer.accelerator = 'gpus'", "gpu?", "cpu"],
    ),
    "a name that is a list": (HEAD, ["model.name=[mlp]"], ["model.name", "choose from mlp"]),
    "_target_": (f"{HEAD}model._target_: os.system\n", [], ["model._target_", "bad.yaml:3", "short name"]),
    "class_path": (
        HEAD,
        ["optimizer.class_path=torch.optim.SGD"],
        ["optimizer.class_path", "command line", "short name"],
    ),
    "init_args": (
        f"{HEAD}data:\n  init_args: {{}}\n".replace("data: {name: digits}\n", ""),
        [],
        ["data.name is missing"],
    ),
    "no key": (HEAD, ["=3"], ["'=3'", "key.path=value"]),
    "neither file nor override": (HEAD, ["--", "max-epochs"], ["--"]),
    "a bare word with a hyphen": (HEAD, ["max-epochs"], ["'max-epochs'", "key.path=value"]),
    "an element of a list": (HEAD, ["model.hidden[0]=3"], ["model.hidden[0]=3", "key=[1,2]"]),
    "broken override": (HEAD, ["model.hidden=[1,"], ["model.hidden", "not valid YAML"]),
    "unknown option": (HEAD, ["--dryrun"], ["--dryrun", "--dry-run?"]),
    "no": (f"{HEAD}trainer: {{compile: no}}\n", [], ["bad.yaml:3", "trainer.compile", "true or false"]),
    "no by override": (HEAD, ["trainer.compile=no"], ["trainer.compile", "command line", "true or false"]),
    "octal": (f"{HEAD}\nseed: 010\n", [], ["bad.yaml:4", "seed", "leading zeros"]),
    "octal in a list": (HEAD, ["model.hidden=[010]"], ["model.hidden", "command line", "leading zeros"]),
    "sixties": (f"{HEAD}trainer:\n  max_epochs: 1:30\n", [], ["bad.yaml:4", "trainer.max_epochs", "1:30"]),
    "the environment": (HEAD, ["name=${oc.env:HOME}"], ["name", "command line", "switched off"]),
    "the environment, nested": (
        f"{HEAD}run_dir: ${{a.${{oc.env:HOME}}}}\n",
        [],
        ["run_dir", "bad.yaml:3", "switched off"],
    ),
    "reference to nothing": (HEAD, ["seed=${model.seeds}"], ["seed", "command line", "model.seeds"]),
    "reference to itself": (HEAD, ["seed=${seed}"], ["seed", "command line", "Recursive"]),
    "missing value": (HEAD, ["seed=???"], ["seed", "command line", "Missing"]),
    "a name that leaves runs": (HEAD, ["name=../../x"], ["name = '../../x'", "folder"]),
    "no devices": (HEAD, ["trainer.devices=0"], ["devices: 0", "a number ≥ 1"]),
    "an empty list of devices": (HEAD, ["trainer.devices=[]"], ["devices: []", "list of indices"]),
    "devices in words": (HEAD, ["trainer.devices=two"], ["devices: 'two'", "auto"]),
    "stages and variants": (
        HEAD,
        ["stages.a={}", "variants.b={}"],
        ["stages", "variants", "remove one of them"],
    ),
    "no stage": (HEAD, ["stages={}"], ["stages", "names no stage"]),
    "wrong within a stage": (
        f"{HEAD}stages:\n  a:\n    trainer: {{max_epochs: 0}}\n",
        [],
        ["trainer.max_epochs = 0", "bad.yaml:5"],
    ),
    "a seed within a variant": (HEAD, ["variants.a.seed=1"], ["variants.a.seed", "seeds:"]),
    "a directory within a variant": (HEAD, ["variants.a.run_dir=x"], ["variants.a.run_dir", "not allowed"]),
    "a variant that is a path": (
        f"{HEAD}variants: {{../a: {{}}}}\n",
        [],
        ["variants.", "bad.yaml:3", "folder"],
    ),
    "a seed twice": (HEAD, ["seeds=[1,1]"], ["seeds", "[1, 1]"]),
    "one seed for several": (HEAD, ["seeds=3"], ["seeds = 3", "a list"]),
    "a resolver by way of a reference": (
        HEAD,
        ["run_dir=${oc.${trainer.monitor}:HOME}"],
        ["run_dir", "command line", "switched off"],
    ),
    "a resolver in a stage": (
        f"{HEAD}stages: {{a: {{trainer: {{monitor: '${{oc.env:HOME}}'}}}}}}\n",
        [],
        ["trainer.monitor", "bad.yaml:3", "switched off"],
    ),
    "a resolver in a variant": (
        HEAD,
        ["variants.a.trainer.monitor=${oc.env:HOME}"],
        ["trainer.monitor", "command line", "switched off"],
    ),
    "a resolver in a list": (HEAD, ["model.hidden=['${oc.decode:8}']"], ["model.hidden.0", "switched off"]),
    "a section that refers to nothing": (HEAD, ["optimizer=${a.b}"], ["optimizer", "command line", "a.b"]),
    "a reference without an end": (HEAD, ["name='${a'"], ["name", "not valid"]),
    "a list for a model": (HEAD, ["model=[]"], ["model = []", "mapping of keys to values"]),
    "5,000 digits": (f"{HEAD}seed: {'9' * 5000}\n", [], ["bad.yaml:3", "seed", "digits"]),
    "5,000 digits by override": (HEAD, [f"seed={'9' * 5000}"], ["command line", "seed", "digits"]),
    "5,000 hexadecimal digits": (f"{HEAD}seed: 0x{'f' * 5000}\n", [], ["bad.yaml:3", "seed", "digits"]),
    "90 digits": (HEAD, [f"trainer.max_epochs={'9' * 90}"], ["trainer.max_epochs", "at most 2147483647"]),
    "a null character in a key": (f'{HEAD}"\\0": 1\n', [], ["bad.yaml:3", r"'\x00'", "printable"]),
    "a colour in a key": (f'{HEAD}"\\e[31m": 1\n', [], ["bad.yaml:3", r"\x1b[31m", "printable"]),
    "a null character in a value": (
        f'{HEAD}model.init_from: "a\\0"\n',
        [],
        ["model.init_from", r"'a\x00'", "character"],
    ),
    "a long value": (f"{HEAD}trainer.precision: {'z' * 9000}\n", [], ["trainer.precision", "zzz…zzz"]),
    "a long unknown key": (f"{HEAD}{'z' * 900}: 1\n", [], ["bad.yaml:3", "zzz…", "100"]),
    "a tag that does not fit": (f"{HEAD}seed: !!float x\n", [], ["bad.yaml", "not valid YAML"]),
    "a set": (f"{HEAD}model.hidden: !!set {{1}}\n", [], ["bad.yaml:3", "model.hidden", "tag"]),
    "a key that is a list": (f"{HEAD}? [1]\n: 2\n", [], ["bad.yaml:3", "a key must be a word"]),
    "a comment in an override": (HEAD, ["run_dir=a #b"], ["run_dir=a #b", "quotes"]),
    "an anchor in an override": (HEAD, ["run_dir=&x"], ["run_dir=&x", "quotes"]),
    "an anchor before a word": (HEAD, ["run_dir=&x z"], ["run_dir=&x z", "quotes"]),
    "a comment after a list": (HEAD, ["model.hidden=[8] # 9"], ["model.hidden", "quotes"]),
    "a blank at the end": (HEAD, ["run_dir=a "], ["run_dir", "quotes"]),
    "a line end": (HEAD, ["run_dir=a\nb"], ["run_dir", "quotes"]),
    "~ for null": (HEAD, ["run_dir=~"], ["run_dir=~", "null"]),
    "an empty path": (HEAD, ["run_dir=''"], ["run_dir = ''", "empty"]),
    "a long name of a folder": (HEAD, [f"run_dir=a/{'é' * 128}"], ["run_dir", "255 bytes"]),
    "the home of nobody": (HEAD, ["model.init_from=~nobody_of_this_name/x"], ["model.init_from", "home"]),
    "a name of 300 letters": (HEAD, [f"name={'a' * 300}"], ["name", "100 letters"]),
    "a stage that is config.yaml": (
        f"{HEAD}stages: {{Config.yaml: {{}}}}\n",
        [],
        ["stages.Config.yaml", "itself"],
    ),
    "a stage that is checkpoints": (
        f"{HEAD}stages: {{checkpoints: {{}}}}\n",
        [],
        ["stages.checkpoints", "itself"],
    ),
    "two stages in one folder": (f"{HEAD}stages: {{a: {{}}, A: {{}}}}\n", [], ["two stages", "'a'"]),
    "nested too deeply": (f"{HEAD}a: {'[' * 500 + ']' * 500}\n", [], ["bad.yaml", "deeper than 20 levels"]),
    "nested without an end": (f"{HEAD}a: {'[' * 5000}\n", [], ["bad.yaml"]),
    "a key of many parts": (HEAD, [f"{'a.' * 40}b=1"], ["command line", "deeper than 20"]),
    "a rate of 1e300": (HEAD, ["optimizer.lr=1e300"], ["optimizer.lr = 1e+300", "≤ 10000.0"]),
    "a billion units": (HEAD, ["model.hidden=[1000000000]"], ["model.hidden = [1000000000]", "≤ 1048576"]),
    "a beam of a million": (
        "model: {name: seq2seq}\ndata: {name: digit_sequences}\n",
        ["model.beam_size=1000000"],
        ["model.beam_size = 1000000", "≤ 256"],
    ),
    "an elastic field of 1e9": (HEAD, ["data.augment.elastic=1e9"], ["data.augment.elastic", "≤ 100"]),
    "a billion strings": (
        "model: {name: seq2seq}\ndata: {name: digit_sequences}\n",
        ["data.train_size=1000000000"],
        ["data.train_size = 1000000000", "≤ 10000000"],
    ),
    "unknown baseline": (HEAD, ["baselines.forest={}"], ["baselines.forest", "logistic_regression"]),
    "wrong within a baseline": (
        HEAD,
        ["baselines.k_nearest_neighbors.neighbors=0"],
        ["neighbors = 0", "≥ 1"],
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_config_is_refused_with_key_origin_and_what_is_allowed(
    case: tuple[str, list[str], list[str]], refused: Callable[..., str], work: Path
) -> None:
    text, overrides, named = case
    (work / "bad.yaml").write_text(text, encoding="utf-8")
    message = refused("bad.yaml", *overrides)
    for part in named:
        assert part in message


def test_a_missing_file_is_refused_with_the_nearest_config(refused: Callable[..., str]) -> None:
    assert "configs/mnist_cnn.yaml" in refused("configs/mnist_cn.yaml")
    assert "--list" in refused("nowhere_near.yaml")


def test_a_file_that_is_no_text_is_refused(refused: Callable[..., str], work: Path) -> None:
    (work / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    assert "can't read bad.yaml" in refused("bad.yaml")


def test_no_arguments_name_what_to_type(refused: Callable[..., str]) -> None:
    assert "configs/mnist_cnn.yaml" in refused()


def test_an_accelerator_that_this_machine_lacks_is_refused(
    refused: Callable[..., str], tiny_file: Path
) -> None:
    import torch

    missing = "mps" if not torch.backends.mps.is_available() else "cuda"
    message = refused(str(tiny_file), f"trainer.accelerator={missing}")
    assert f"trainer.accelerator = '{missing}'" in message
    assert "available: cpu" in message
    assert "trainer.accelerator" in refused(str(tiny_file), f"trainer.accelerator={missing}", "seeds=[0,1]")


def test_nothing_that_only_reads_configs_imports_torch(work: Path) -> None:
    """In a process of its own; three bad configs, help of every kind, the list and the merged config."""
    (work / "good.yaml").write_text(HEAD)
    (work / "study.yaml").write_text(
        f"{HEAD}seeds: [0, 1]\nvariants: {{a: {{}}, b: {{}}}}\nbaselines: {{majority_class: {{}}}}\n"
    )
    (work / "bad.yaml").write_text(f"{HEAD}seed: -1\n")
    program = """
import sys
from experiments.launch import main
for arguments, status in (
    ("--help", 0), ("-h", 0), ("--list", 0), ("good.yaml --help", 0), ("good.yaml --print-config", 0),
    ("study.yaml --help", 0), ("study.yaml --print-config", 0),
    ("bad.yaml", 2), ("missing.yaml", 2), ("good.yaml model.name=x", 2), ("", 2),
):
    assert main(arguments.split()) == status, arguments
heavy = {"torch", "lightning", "torchmetrics", "numpy", "sklearn", "matplotlib"} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for shown in ("trainer.max_epochs", "configs/mnist_cnn.yaml", "model.hidden", "weight_decay: 0.01"):
        assert shown in done.stdout


def test_help_of_a_config_shows_every_key_of_its_sections(
    tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_file), "--help"]) == 0
    shown = capsys.readouterr().out
    plain = load_config(tiny_file).plain
    for section in ("model", "data", "optimizer", "schedule", "trainer"):
        for key in plain[section]:
            if key != "name":
                assert f"{section}.{key}" in shown


def test_later_files_win_over_earlier_ones_and_overrides_over_files(work: Path) -> None:
    (work / "a.yaml").write_text(f"{HEAD}seed: 1\ntrainer: {{max_epochs: 5, ema_decay: 0.9}}\n")
    (work / "b.yaml").write_text("seed: 2\ntrainer: {max_epochs: 6}\n")
    loaded = load_config("a.yaml", "b.yaml", "trainer.max_epochs=7")
    assert (loaded.seed, loaded.trainer.max_epochs, loaded.trainer.ema_decay) == (2, 7, 0.9)
    # Wherever the override stands among the files.
    assert load_config("trainer.max_epochs=7", "a.yaml", "b.yaml").plain == loaded.plain
    assert loaded.name == "a"


def test_a_config_is_found_in_the_repository_from_any_folder(work: Path) -> None:
    assert load_config("configs/mnist_mlp.yaml").plain == load_config("mnist_mlp").plain
    (work / "mnist_mlp.yaml").write_text(f"{HEAD}name: mine\n")
    assert load_config("mnist_mlp.yaml").name == "mine"


def test_a_list_replaces_a_list() -> None:
    first = {**BASE, "model": {"name": "mlp", "hidden": [9, 8, 7]}}
    assert load_config(first, {"model": {"hidden": [5]}}).model.config.hidden == [5]


def test_another_optimizer_does_not_inherit_the_settings_of_the_first() -> None:
    first = {**BASE, "optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.9}}
    swapped = load_config(first, "optimizer.name=adam").optimizer.config
    assert swapped.lr == load_config(BASE, "optimizer.name=adam").optimizer.config.lr
    # Naming it again changes nothing, and the default's name is the one that a section without a name has.
    assert load_config(first, "optimizer.name=sgd").optimizer.config.momentum == 0.9
    unnamed = {**BASE, "optimizer": {"lr": 0.5}}
    assert load_config(unnamed, "optimizer.name=adamw").optimizer.config.lr == 0.5


def test_the_order_of_overrides_is_irrelevant() -> None:
    overrides = ["optimizer.name=sgd", "optimizer.lr=0.5", "optimizer.momentum=0.7", "seed=3"]
    first = {**BASE, "optimizer": {"name": "adam", "lr": 0.25}}
    plains = [load_config(first, *order).plain for order in itertools.permutations(overrides)]
    assert all(plain == plains[0] for plain in plains)
    assert plains[0]["optimizer"]["lr"] == 0.5


def test_values_refer_to_each_other() -> None:
    loaded = load_config(
        BASE,
        "seed=7",
        "data.split_seed=${seed}",
        "model.hidden=['${trainer.max_epochs}','${seed}']",
        "trainer.max_epochs=4",
    )
    assert loaded.data.config.split_seed == 7
    assert loaded.model.config.hidden == [4, 7]


def test_each_fit_of_a_study_reads_a_reference_with_its_own_seed(work: Path) -> None:
    study = load_config(BASE, "seeds=[3,4]", "data.split_seed=${seed}")
    assert [child.config.data.config.split_seed for child in study.children] == [3, 4]
    (work / "again.yaml").write_text(to_yaml(study.plain), encoding="utf-8")
    assert load_config("again.yaml").children == study.children
    assert load_config(BASE, "data.split_seed=${seed}").data.config.split_seed == 0


def test_numbers_and_words_are_read_as_they_look() -> None:
    loaded = load_config(
        BASE,
        "optimizer.lr=1e-3",
        "optimizer.weight_decay=0",
        "trainer.ema_decay=null",
        "run_dir='010'",
        "name=v1.30",
    )
    assert loaded.optimizer.config.lr == 1e-3
    assert loaded.optimizer.config.weight_decay == 0.0
    assert isinstance(loaded.optimizer.config.weight_decay, float)
    assert loaded.trainer.ema_decay is None
    assert loaded.run_dir == "010"
    assert loaded.name == "v1.30"


def test_an_equals_sign_in_a_files_path_makes_it_no_override(work: Path) -> None:
    folder = work / "lr=0.1"
    folder.mkdir()
    (folder / "config.yaml").write_text(f"{HEAD}seed: 5\n")
    assert load_config(str(folder / "config.yaml")).seed == 5
    assert load_config("./lr=0.1/config.yaml").seed == 5


def test_a_file_with_a_name_that_is_no_folders_still_has_a_run_directory(work: Path) -> None:
    (work / "my first try.yaml").write_text(HEAD)
    assert load_config("my first try.yaml").name == "my_first_try"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {
            "seeds": [0, 1],
            "variants": {"lr_0.1": {"optimizer": {"lr": 0.1}}},
            "baselines": {"majority_class": {}},
        },
        {"stages": {"a": {"seed": 3}, "b": {"model": {"init_from": "a"}}}},
    ],
    ids=["fit", "study", "stages"],
)
def test_the_written_config_reads_back_as_the_same(more: dict[str, Any], work: Path) -> None:
    loaded = load_config({**BASE, "optimizer": {"name": "sgd", "lr": 1e-5}, "name": "one", **more}, "seed=3")
    (work / "again.yaml").write_text(to_yaml(loaded.plain), encoding="utf-8")
    again = load_config("again.yaml")
    assert again.plain == loaded.plain
    assert again.children == loaded.children
    assert again.baselines == loaded.baselines


AWKWARD = (
    *("y", "n", "no", "On", "true", "null", "~", "", "é", " a", "a: b", "# x", "a\nb"),
    *("1e3", "1e-5", "010", "1:30", "1_000", "1.", ".inf", "0x1f", "2024-01-01"),
)


def test_awkward_strings_survive_being_written(work: Path) -> None:
    written: dict[str, Any] = {**BASE, "trainer": {}}
    for text in AWKWARD:
        written["trainer"]["monitor"] = text
        (work / "again.yaml").write_text(to_yaml(written), encoding="utf-8")
        assert load_config("again.yaml").trainer.monitor == text


def test_print_config_prints_what_load_reads(
    tiny_file: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_file), "--print-config", "seed=9"]) == 0
    printed = capsys.readouterr().out
    (work / "printed.yaml").write_text(printed, encoding="utf-8")
    assert load_config("printed.yaml").plain == load_config(tiny_file, "seed=9").plain
    assert sorted(p.name for p in work.iterdir()) == ["printed.yaml", "tiny.yaml"]


def test_random_text_is_refused_and_never_crashes(work: Path) -> None:
    import random

    draw = random.Random(0)
    pieces = [
        *"ab:[]{}-#&*!|>'\"%@`,?\n\t 01.$~<y=",
        "name",
        "model:",
        "\n  ",
        "${",
        "???",
        "data: {name: digits}\n",
    ]
    path = work / "noise.yaml"
    for _ in range(200):
        text = "".join(draw.choice(pieces) for _ in range(draw.randrange(1, 14)))
        for source in ((path,), (BASE, f"model.activation={text}")):
            path.write_text(text, encoding="utf-8")
            with pytest.raises(UserError) as caught:
                load_config(*source)
            assert len(str(caught.value).splitlines()) <= 2, text


def test_every_published_config_is_valid_and_says_what_it_shows() -> None:
    from experiments.config.help import list_configs, summary
    from experiments.config.sources import PUBLISHED

    paths = sorted(PUBLISHED.glob("*.yaml"))
    assert paths
    for path in paths:
        assert load_config(path).name == path.stem
        assert len(summary(path)) > 10
        assert re.search(rf"configs/{path.name} {{2,}}\S", list_configs())


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("objective=mse", r"must be a mapping of keys to values; set objective\.name=mse$"),
        ("lr=0.1", r"unknown key lr \(the command line\); there is optimizer\.lr$"),
        ("max_epochs=3", r"there is trainer\.max_epochs$"),
        ("implementation=by_hand", r"there is model\.implementation, optimizer\.implementation$"),
    ],
)
def test_a_key_without_its_section_is_told_where_it_belongs(
    override: str, wanted: str, tiny: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=wanted):
        load_config(tiny, override)


@pytest.mark.parametrize(
    ("data", "model"),
    [
        ("table", "table_classifier"),
        ("text", "language_model"),
        ("pronunciation", "seq2seq"),
        ("steering_pairs", "steering"),
    ],
)
def test_a_tilde_in_a_path_of_data_is_the_home(
    data: str, model: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(work))
    settings = {"model": {"name": model}, "data": {"name": data, "path": "~/x"}}
    more = {"data.target": "y"} if data == "table" else {}
    assert load_config(settings, more).data.config.path == str(work / "x")
