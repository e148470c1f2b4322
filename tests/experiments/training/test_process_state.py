"""What a run changes of the process is as it was when it ends, however it ends."""

import logging
import warnings

import pytest
import torch

from experiments.training.process_state import global_state_kept, quiet_lightning

NAMES = ("lightning", "lightning.pytorch", "lightning.fabric")


def loggers() -> list[tuple[list[logging.Handler], bool]]:
    return [(logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in NAMES]


def test_lightning_and_warnings_speak_to_the_log_alone(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before, root = loggers(), logging.getLogger().handlers[:]
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("lightning.pytorch").warning("a note")
        warnings.warn("a warning", stacklevel=1)
    assert [record.getMessage().split(": ")[-1].split("\n")[0] for record in caplog.records] == [
        "a note",
        "a warning",
    ]
    assert capfd.readouterr().err == ""
    assert (loggers(), logging.getLogger().handlers) == (before, root)
    with pytest.warns(UserWarning, match="heard again"):
        warnings.warn("heard again", stacklevel=1)


def test_determinism_is_put_back_after_an_error() -> None:
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark

    def change_everything_and_fail() -> None:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic = not cudnn[0]
        torch.backends.cudnn.benchmark = not cudnn[1]
        raise KeyError

    with pytest.raises(KeyError), global_state_kept():
        change_everything_and_fail()
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == cudnn


def test_what_was_deterministic_stays_so() -> None:
    torch.use_deterministic_algorithms(True)  # a fixture puts it back
    with global_state_kept():
        torch.use_deterministic_algorithms(False)
    assert torch.are_deterministic_algorithms_enabled()
