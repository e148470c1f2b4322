import pytest
import torch

from experiments.benchmark import __main__ as command
from experiments.benchmark import loader


def test_every_pipeline_serves_the_same_training_images() -> None:
    served = {}
    for name, batches in loader.pipelines("digits", 100, {}).items():
        torch.manual_seed(0)
        images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert images.shape == (1200, 1, 8, 8)
        served[name] = (images, targets)
    (images, targets), (resident_images, resident_targets) = (
        served[loader.PER_SAMPLE],
        served[loader.RESIDENT],
    )
    torch.testing.assert_close(images, resident_images, rtol=1e-4, atol=1e-4)  # in the same order too
    torch.testing.assert_close(targets, resident_targets)
    plain = served[loader.CLASSIC][0]
    torch.testing.assert_close(plain.mean(), images.mean(), rtol=0.05, atol=0.02)
    torch.testing.assert_close(plain.std(), images.std(), rtol=0.05, atol=0.02)


@pytest.mark.slow
def test_augmented_images_differ_from_pass_to_pass() -> None:
    augment = loader.AUGMENTATIONS["as in mnist_cnn"]
    for batches in loader.pipelines("digits", 1257, {**augment, "shift": 1}).values():
        first, second = (next(iter(batches))[0].sort(dim=0).values for _ in range(2))
        assert not torch.equal(first, second)


def test_command(tmp_path, capsys) -> None:
    path = tmp_path / "loader.json"
    assert command.main(["loader", "--quick", "--batch-size", "16", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(loader.RESIDENT) == 2
    assert path.is_file()
