"""What a config asks of the machine is checked against what the machine has, and resolved by it."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from experiments.config.trainer import TrainerConfig
from experiments.errors import UserError
from experiments.training import trainer as trainers
from lit_modules.configs.transformer import TransformerConfig


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretend to be a machine with these devices and CPU instructions."""

    def pretend(devices: dict[str, int], *instructions: str, cuda_bf16: bool = False) -> None:
        monkeypatch.setattr(trainers, "_available", lambda: devices)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: cuda_bf16)

    return pretend


CONFIG = TrainerConfig()


def test_this_machine_can_do_what_it_says_it_has() -> None:
    for kind in trainers._available():
        trainers.check_hardware(replace(CONFIG, accelerator=kind))
        torch.zeros(1, device=kind)
    trainers.check_hardware(CONFIG)


def test_auto_takes_the_fastest_kind_there_is(machine) -> None:
    for devices, expected in (
        ({"cpu": 2, "cuda": 1}, "cuda"),
        ({"cpu": 2, "mps": 1}, "mps"),
        ({"cpu": 2}, "cpu"),
    ):
        machine(devices)
        assert trainers.resolve_accelerator(CONFIG) == expected
    machine({"cpu": 2, "mps": 1})
    assert trainers.resolve_accelerator(replace(CONFIG, accelerator="gpu")) == "mps"


@pytest.mark.parametrize("accelerator", ["cuda", "gpu", "mps", "tpu"])
def test_a_device_that_is_missing_is_refused_with_what_there_is(machine, accelerator: str) -> None:
    machine({"cpu": 2})
    with pytest.raises(UserError, match=rf"trainer\.accelerator = '{accelerator}'.*available: cpu"):
        trainers.check_hardware(replace(CONFIG, accelerator=accelerator))


@pytest.mark.parametrize("devices", [3, [0, 2], [5]])
def test_more_devices_than_there_are_are_refused(
    machine, devices: int | list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine({"cpu": 2, "cuda": 2})
    with pytest.raises(UserError, match=r"this machine has 2 cuda"):
        trainers.check_hardware(replace(CONFIG, accelerator="cuda", devices=devices))
    trainers.check_hardware(replace(CONFIG, accelerator="cuda", devices=[0, 1]))
    monkeypatch.setattr(trainers, "usable_cores", lambda: {0, 2, 5})
    trainers.check_hardware(replace(CONFIG, accelerator="cpu", devices=3))
    with pytest.raises(UserError, match=r"trainer\.devices = 4: this process may use 3 CPU cores"):
        trainers.check_hardware(replace(CONFIG, accelerator="cpu", devices=4))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    trainers.check_hardware(replace(CONFIG, accelerator="cpu", devices=4))


@pytest.mark.parametrize(
    ("present", "before", "after"),
    [
        ({"cpu": 1}, {"accelerator": "gpu"}, {"accelerator": "cpu"}),
        ({"cpu": 1, "mps": 1}, {"accelerator": "cuda"}, {"accelerator": "mps"}),
        ({"cpu": 1, "cuda": 1}, {"accelerator": "mps"}, {"accelerator": "cuda"}),
        ({"cpu": 1}, {"accelerator": "tpu", "devices": 2, "strategy": "ddp"}, {"accelerator": "cpu"}),
        (
            {"cpu": 1},
            {"accelerator": "gpu", "devices": [1, 3], "strategy": "fsdp", "precision": "16-mixed"},
            {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "precision": "32-true"},
        ),
        ({"cpu": 1}, {"accelerator": "gpu", "devices": 1, "strategy": "fsdp"}, {"strategy": "auto"}),
        ({"cpu": 1, "cuda": 1}, {"accelerator": "gpu", "devices": [0, 1]}, {"devices": 1}),
        ({"cpu": 1, "cuda": 2}, {"accelerator": "gpu", "devices": [1]}, {}),
        ({"cpu": 1, "cuda": 2}, {"accelerator": "gpu", "devices": 2, "precision": "16-mixed"}, {}),
        ({"cpu": 1}, {"precision": "bf16-mixed", "compile": True}, {}),
    ],
)
def test_a_run_of_another_machine_gets_what_this_one_has(machine, present, before, after) -> None:
    machine(present)
    config = replace(CONFIG, **before)
    here, notes = trainers.at_hand(config)
    trainers.check_hardware(here)
    for key, value in after.items():
        assert getattr(here, key) == value
    changed = {key for key, value in vars(config).items() if getattr(here, key) != value}
    assert changed == set(after) | ({"accelerator"} if config.accelerator not in ("auto", "gpu") else changed)
    assert [note.split()[0] for note in notes] == [f"trainer.{key}" for key in vars(config) if key in changed]


def test_precision_that_the_device_lacks_is_refused(machine) -> None:
    machine({"cpu": 2, "mps": 1})
    with pytest.raises(UserError, match=r"16-mixed.*needs a GPU"):
        trainers.check_hardware(replace(CONFIG, accelerator="cpu", precision="16-mixed"))
    with pytest.raises(UserError, match=r"64-true.*MPS"):
        trainers.check_hardware(replace(CONFIG, accelerator="mps", precision="64-true"))


def test_cuda_graphs_need_cuda(machine) -> None:
    graphs = replace(CONFIG, compile="reduce-overhead")
    machine({"cpu": 1, "cuda": 1})
    trainers.check_hardware(graphs)
    assert trainers.at_hand(graphs) == (graphs, ())
    machine({"cpu": 1})
    with pytest.raises(UserError, match=r"^trainer\.compile = 'reduce-overhead' needs a CUDA GPU"):
        trainers.check_hardware(graphs)
    continued, notes = trainers.at_hand(graphs)
    assert continued.compile is True
    assert notes == ("trainer.compile = 'reduce-overhead' is not available on this machine; using True",)


@pytest.mark.parametrize(
    ("devices", "capability", "installed", "precision", "message"),
    [
        ({"cpu": 1}, (9, 0), True, "auto", r"'triton' needs a CUDA GPU; use fused, by_hand or tiled"),
        ({"cpu": 1, "mps": 1}, (9, 0), True, "auto", "needs a CUDA GPU"),
        ({"cpu": 1, "cuda": 1}, (9, 0), False, "auto", "pip install triton"),
        ({"cpu": 1, "cuda": 1}, (7, 5), True, "auto", r"compute capability 8\.0"),
        ({"cpu": 1, "cuda": 1}, (9, 0), True, "64-true", "has no fp64"),
        ({"cpu": 1, "cuda": 1}, (8, 0), True, "auto", None),
    ],
)
def test_kernels_in_triton_need_a_gpu(
    machine,
    monkeypatch: pytest.MonkeyPatch,
    devices: dict[str, int],
    capability: tuple[int, int],
    installed: bool,
    precision: str,
    message: str | None,
) -> None:
    machine(devices)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(trainers, "find_spec", lambda name: name if installed else None)
    config, model = replace(CONFIG, precision=precision), TransformerConfig(implementation="triton")
    trainers.check_hardware(config, TransformerConfig())
    refused = nullcontext() if message is None else pytest.raises(UserError, match=message)
    with refused:
        trainers.check_hardware(config, model)


@pytest.mark.parametrize(
    ("devices", "instructions", "cuda_bf16", "expected"),
    [
        ({"cpu": 1}, (), False, "32-true"),
        ({"cpu": 1}, ("avx2", "avx512_f"), False, "32-true"),
        ({"cpu": 1}, ("amx_bf16",), False, "bf16-mixed"),
        ({"cpu": 1}, ("avx512_bf16",), False, "bf16-mixed"),
        ({"cpu": 1, "cuda": 1}, ("amx_bf16",), False, "32-true"),
        ({"cpu": 1, "cuda": 1}, (), True, "bf16-mixed"),
        ({"cpu": 1, "mps": 1}, ("amx_bf16",), False, "32-true"),
    ],
)
def test_auto_precision_is_bf16_only_where_that_is_fast(
    machine, devices: dict[str, int], instructions: tuple[str, ...], cuda_bf16: bool, expected: str
) -> None:
    machine(devices, *instructions, cuda_bf16=cuda_bf16)
    assert trainers.resolve_precision(CONFIG) == expected
    assert trainers.resolve_precision(replace(CONFIG, precision="64-true")) == "64-true"


def test_one_process_on_a_cpu_unless_torchrun_has_started_more(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, accelerator="cpu")
    assert trainers._devices(config) == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert trainers._devices(config) == 3
    assert trainers._devices(replace(config, devices=2)) == 2


@pytest.mark.parametrize("devices", [0, -1, [], [-1], "two", "0"])
def test_devices_that_mean_nothing_are_refused(devices: int | list[int] | str) -> None:
    with pytest.raises(ValueError, match="devices"):
        TrainerConfig(devices=devices)


def test_determinism_is_put_back_after_an_error() -> None:
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark

    def change_everything_and_fail() -> None:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic = not cudnn[0]
        torch.backends.cudnn.benchmark = not cudnn[1]
        raise KeyError

    with pytest.raises(KeyError), trainers.global_state_kept():
        change_everything_and_fail()
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == cudnn


def test_what_was_deterministic_stays_so() -> None:
    torch.use_deterministic_algorithms(True)  # a fixture puts it back
    with trainers.global_state_kept():
        torch.use_deterministic_algorithms(False)
    assert torch.are_deterministic_algorithms_enabled()
