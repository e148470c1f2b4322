"""The stage left by the tiny chain."""

from pathlib import Path

from experiments.run_directory import read_metrics
from experiments.states_manifest import read_manifest


def test_all_prompts_are_read_at_the_layers_asked(chain_run: Path) -> None:
    assert read_metrics(chain_run / "extract") == {"prompts": 4 * (5 * 2 + 2 * 3), "layers": 2}
    assert read_manifest(chain_run / "extract" / "states.safetensors").layers == (0, 1)
