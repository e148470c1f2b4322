from dataclasses import replace

import pytest
import torch

from experiments.benchmark.decode import tiny_model
from experiments.benchmark.library_llama import library_llama
from lit_modules.pretrained.readers import build_network


@pytest.mark.parametrize("layout", ["adjacent_pairs", "half_split"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_those_of_our_network(layout: str, dtype: torch.dtype) -> None:
    pretrained = tiny_model()
    pretrained.config = replace(pretrained.config, rotary_layout=layout)
    tokens = torch.arange(20)[None]
    with torch.inference_mode():
        ours = build_network(pretrained, dtype=dtype)(tokens)
        theirs = library_llama(pretrained, dtype)(tokens).logits
    assert theirs.dtype == dtype
    assert float(theirs.std()) > 0.05
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_without_the_library_there_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert library_llama(tiny_model(), torch.float32) is None
