import sys

import numpy as np
import pytest

from experiments.benchmark.memory import peak_memory_mib

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows reports no peak")


@pytest.mark.slow
def test_peak_is_that_of_the_call_alone() -> None:
    """What this process holds doesn't count, nor what the warm-up made; the 64 MiB of the call do."""
    held = np.ones(128 * 2**20, dtype=np.uint8)
    peak = peak_memory_mib(np.ones, 64 * 2**17, warmup_args=(1,))
    assert peak is not None
    assert 60 < peak < 80
    assert held[-1] == 1


def test_a_second_call_that_needs_no_more_raises_no_peak() -> None:
    assert peak_memory_mib(np.ones, 2**17, warmup_args=(8 * 2**17,)) == pytest.approx(0, abs=1)
