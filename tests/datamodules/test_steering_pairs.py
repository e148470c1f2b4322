import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from datamodules.configs.steering_pairs import SteeringPairsConfig
from datamodules.steering_pairs import SteeringPairsDataModule, synthetic_pairs

SMALL = {"width": 8, "size": 60, "val_size": 10, "batch_size": 16, "eval_batch_size": 25}
OWN = {"val_size": 4, "test_size": 6, "batch_size": 4}


def small(**settings: object) -> SteeringPairsDataModule:
    return SteeringPairsDataModule(SteeringPairsConfig(**(SMALL | settings)))


def write(path: Path, **tensors: Tensor) -> str:
    save_file(tensors, path)
    return str(path)


def own(path: str, **settings: object) -> SteeringPairsDataModule:
    return SteeringPairsDataModule(SteeringPairsConfig(path=path, **(OWN | settings)))


def test_sizes_and_description() -> None:
    data = small()
    info = data.info
    assert (info.train_size, info.val_size, info.test_size) == (50, 10, 60)
    assert info.input_shape == (8,)
    states, targets = data.split("train")
    np.testing.assert_allclose(info.mean, states.numpy().mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(info.std, states.numpy().std(0, ddof=1), rtol=1e-4)
    assert info.target_scale == pytest.approx(np.sqrt((targets.numpy() ** 2).mean()), rel=1e-5)
    assert small(test_size=7).info.test_size == 7


def test_a_fraction_of_the_training_pairs_is_a_fixed_sample_of_them() -> None:
    """A smaller sample is part of a larger one, and the other splits stay as they are."""
    whole, half, fifth = (small(train_fraction=fraction) for fraction in (1.0, 0.5, 0.2))
    rows = [{tuple(state.tolist()) for state in data.split("train")[0]} for data in (whole, half, fifth)]
    assert [len(one) for one in rows] == [50, 25, 10]
    assert rows[0] > rows[1] > rows[2]
    assert half.info.train_size == 25
    for name in ("val", "test"):
        torch.testing.assert_close(half.split(name), whole.split(name), rtol=0, atol=0)
    weight = torch.linalg.lstsq(*whole.split("train")).solution
    states, targets = half.split("train")  # pairs stay pairs
    torch.testing.assert_close(states @ weight, targets, rtol=0.1, atol=0.1)
    assert small(train_fraction=1e-6).info.train_size == 2


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_one_linear_map_explains_every_part_but_for_the_noise(name: str) -> None:
    """Least squares in NumPy on the test pairs finds the W of all parts."""
    data = small(size=400, noise=0.1)
    weight, *_ = np.linalg.lstsq(*(part.numpy() for part in data.split("test")), rcond=None)
    states, targets = (part.numpy() for part in data.split(name))
    errors = targets - states @ weight
    assert errors.std() == pytest.approx(0.1, rel=0.35)
    assert weight.std() == pytest.approx(1, rel=0.25)
    assert states.std() == pytest.approx(1, rel=0.1)
    assert states.mean() == pytest.approx(0, abs=0.1)


def test_without_noise_the_map_is_exact() -> None:
    states, targets = small(size=50, noise=0.0).split("test")
    weight = torch.linalg.lstsq(states, targets).solution
    torch.testing.assert_close(states @ weight, targets, rtol=1e-4, atol=1e-4)


def test_parts_are_different_pairs_and_no_size_changes_the_test() -> None:
    data, larger = small(), small(size=90, val_size=20, test_size=60)
    rows = torch.cat([data.split(name)[0] for name in ("train", "val", "test")])
    assert len(rows.unique(dim=0)) == len(rows) == 120
    torch.testing.assert_close(data.split("test")[1], larger.split("test")[1], rtol=0, atol=0)


def test_the_pairs_depend_on_their_own_seed_alone() -> None:
    config = SteeringPairsConfig(**SMALL)
    a, b = (SteeringPairsDataModule(config, seed=seed).split("train")[0] for seed in (0, 1))
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    other = synthetic_pairs(SteeringPairsConfig(**SMALL, data_seed=1))["train"][0]
    assert not torch.equal(a, other)


def test_loaders_serve_each_pair_once_and_training_is_shuffled_by_the_runs_seed() -> None:
    data = small()
    for name, batches in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        served = [torch.cat(part) for part in zip(*batches, strict=True)]
        for got, stored in zip(served, data.split(name), strict=True):
            torch.testing.assert_close(got, stored, rtol=0, atol=0)
    states, targets = data.split("train")
    orders = []
    for seed in (0, 1):
        shuffled = SteeringPairsDataModule(SteeringPairsConfig(**SMALL), seed=seed).train_dataloader()
        got_states, got_targets = (torch.cat(part) for part in zip(*shuffled, strict=True))
        order = torch.cdist(got_states, states).argmin(1)
        assert order.sort().values.tolist() == list(range(50))
        torch.testing.assert_close(got_targets, targets[order], rtol=0, atol=0)
        orders.append(order.tolist())
    assert orders[0] != orders[1]
    assert orders[0] != list(range(50))


def test_pairs_of_ones_own_are_split_at_random_and_stay_pairs(tmp_path: Path) -> None:
    states = torch.arange(60.0).view(20, 3)
    data = own(write(tmp_path / "own.safetensors", h=states, z=states.double() + 100))
    sizes = {name: len(data.split(name)[0]) for name in ("train", "val", "test")}
    assert sizes == {"train": 10, "val": 4, "test": 6}
    together = torch.cat([data.split(name)[0] for name in sizes])
    torch.testing.assert_close(together.sort(0).values, states)
    for name in sizes:
        h, z = data.split(name)
        assert h.dtype == z.dtype == torch.float32
        torch.testing.assert_close(h + 100, z)
    assert own(data.config.path or "", test_size=None).info.test_size == 4


def test_a_file_may_say_how_it_is_split(tmp_path: Path) -> None:
    states = torch.randn(9, 3)
    split = torch.tensor([0, 2, 1, 0, 1, 2, 0, 2, 0], dtype=torch.uint8)
    data = own(write(tmp_path / "own.safetensors", h=states, z=2 * states, split=split))
    assert data.info.train_size == 4
    torch.testing.assert_close(data.split("val")[0], states[[2, 4]])
    torch.testing.assert_close(data.split("test")[1], 2 * states[[1, 5, 7]])


def _nan() -> Tensor:
    tensor = torch.ones(20, 3)
    tensor[7, 1] = torch.nan
    return tensor


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"h": torch.ones(20, 3)}, "has no z; it has h"),
        ({"z": torch.ones(20, 3)}, "has no h; it has z"),
        (
            {"h": torch.ones(20, 3), "z": torch.ones(20, 4)},
            "h of shape 20 × 3 and z of shape 20 × 4; expected equal",
        ),
        ({"h": torch.ones(20, 3), "z": torch.ones(19, 3)}, "z of shape 19 × 3"),
        ({"h": torch.ones(20), "z": torch.ones(20)}, "h of shape 20 in torch.float32; expected floating"),
        (
            {"h": torch.ones(2, 2, dtype=torch.int64), "z": torch.ones(2, 2)},
            "h of shape 2 × 2 in torch.int64",
        ),
        ({"h": _nan(), "z": torch.ones(20, 3)}, "row 7 of h has a value that is not finite"),
        (
            {"h": torch.ones(11, 3), "z": torch.ones(11, 3)},
            "11 pairs, too few for 4 validation and 6 test pairs",
        ),
        (
            {"h": torch.ones(20, 3), "z": torch.ones(20, 3), "split": torch.ones(19, dtype=torch.int64)},
            "split of shape 19 in torch.int64; expected 20 integers",
        ),
        (
            {"h": torch.ones(20, 3), "z": torch.ones(20, 3), "split": torch.ones(20)},
            "in torch.float32; expected",
        ),
        (
            {"h": torch.ones(3, 3), "z": torch.ones(3, 3), "split": torch.tensor([0, 0, 1])},
            "1 pairs for val, expected at least 2",
        ),
    ],
)
def test_refuses_pairs_that_do_not_match(tensors: dict[str, Tensor], said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "own.safetensors", **tensors)
    with pytest.raises(ValueError, match=said) as error:
        own(path).setup()
    assert path in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*absent\.safetensors"):
        own(str(tmp_path / "absent.safetensors")).setup()
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0")
    with pytest.raises(ValueError, match=r"cut\.safetensors is not a safetensors file"):
        own(str(tmp_path / "cut.safetensors")).setup()


def test_refuses_a_validation_that_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="val_size: 60 leaves nothing to train on"):
        SteeringPairsConfig(size=60, val_size=60)


def extracted(folder: Path, **tensors: Tensor) -> str:
    """A file of two layers, 3 and 7, as `experiments.extract` writes it."""
    manifest = {"model": "tiny", "model_sha256": "0" * 64, "template": "plain", "layers": [3, 7]}
    path = folder / "states.safetensors"
    save_file(tensors, path, metadata={"manifest": json.dumps(manifest)})
    return str(path)


def test_of_a_file_with_layers_those_that_are_named_are_taken(tmp_path: Path) -> None:
    h, z = torch.randn(2, 20, 2, 5).unbind()
    z[::4] = 0
    path = extracted(tmp_path, h=h, z=z, split=torch.arange(20) % 3)
    data = own(path, input_layer=7, target_layer=3)
    states, targets = data.split("val")
    assert torch.equal(states, h[1::3, 1])
    assert torch.equal(targets, z[1::3, 0])
    assert data.info.steering["model"] == "tiny"
    train = z[::3, 0]
    mean = train[train.abs().sum(-1) > 0].mean(0)
    assert data.info.steering["mean"] == pytest.approx(mean.tolist(), rel=1e-5)


def test_refuses_layers_that_a_file_has_not(tmp_path: Path) -> None:
    h = torch.randn(20, 2, 5)
    with pytest.raises(ValueError, match=r"has layers 3, 7; data\.target_layer is 4"):
        _ = own(extracted(tmp_path, h=h, z=h.clone()), input_layer=3, target_layer=4).info
    with pytest.raises(ValueError, match=r"states\.safetensors has no z; it has h"):
        _ = own(extracted(tmp_path, h=h), input_layer=3, target_layer=3).info


def test_a_manifest_of_somebody_elses_means_nothing(tmp_path: Path) -> None:
    h = torch.randn(20, 5)
    save_file(
        {"h": h, "z": h.clone()}, tmp_path / "own.safetensors", metadata={"manifest": '{"made": "here"}'}
    )
    assert own(str(tmp_path / "own.safetensors")).info.train_size == 10
    with pytest.raises(ValueError, match=r"has no layers; leave out data\.input_layer"):
        _ = own(str(tmp_path / "own.safetensors"), input_layer=0, target_layer=0).info
