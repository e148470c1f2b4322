"""The stage left by the tiny chain."""

from pathlib import Path

from experiments.steering.states_manifest import read_manifest
from experiments.training.run_directory import read_metrics


def test_all_prompts_are_read_at_the_layers_asked(chain_run: Path) -> None:
    assert read_metrics(chain_run / "extract") == {"prompts": 4 * (5 * 2 + 2 * 3), "layers": 2}
    assert read_manifest(chain_run / "extract" / "states.safetensors").layers == (0, 1)
