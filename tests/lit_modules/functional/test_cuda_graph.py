import subprocess
import sys

import pytest
import torch

from lit_modules.functional.cuda_graph import CudaGraph

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def test_a_graph_computes_what_the_function_computes() -> None:
    weights = torch.randn(4, 4, device="cuda")
    graph = CudaGraph(lambda x: (x @ weights, {"sum": x.sum()}), [torch.zeros(3, 4, device="cuda")])
    for seed in range(3):
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)).cuda()
        product, others = graph(x)
        assert torch.equal(product, x @ weights)
        assert torch.equal(others["sum"], x.sum())
    weights.zero_()  # what is changed in place is read anew
    assert not graph(x)[0].any()


def test_a_generator_gives_the_numbers_of_the_function() -> None:
    generator = torch.Generator("cuda")

    def noisy(x: torch.Tensor) -> torch.Tensor:
        shifts = torch.randint(-2, 3, (len(x),), generator=generator, device="cuda")
        return x + torch.rand(len(x), generator=generator, device="cuda") + shifts

    x = torch.zeros(5, device="cuda")
    graph = CudaGraph(noisy, [x], generators=[generator])
    for seed in (3, 4, 3):
        generator.manual_seed(seed)
        replayed = graph(x).clone()
        generator.manual_seed(seed)
        assert torch.equal(replayed, noisy(x))


def test_what_reads_a_value_cant_be_recorded() -> None:
    """In a process of its own: PyTorch's random generators are not usable after such a failure."""
    code = (
        "import torch; from lit_modules.functional.cuda_graph import CudaGraph\n"
        "try: CudaGraph(lambda x: x * x.sum().item(), [torch.ones(2, device='cuda')])\n"
        "except RuntimeError: print('refused')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "refused\n", ran.stderr
