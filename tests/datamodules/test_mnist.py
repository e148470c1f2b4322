"""The datamodules on their real data."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets.mnist import read_image_file, read_label_file

from datamodules import mnist as mnist_module
from datamodules.configs.mnist import AugmentConfig, DigitsConfig, FashionMNISTConfig, MNISTConfig
from datamodules.loading.split import stratified_sample
from datamodules.mnist import (
    DigitsDataModule,
    FashionMNISTDataModule,
    ImageDataModule,
    MNISTDataModule,
)


def digits(*, seed: int = 0, **values: Any) -> DigitsDataModule:
    return DigitsDataModule(DigitsConfig(**values), seed=seed)


def attach(module: ImageDataModule, *, rank: int = 0, world_size: int = 1, limit: int | float = 1.0) -> None:
    """What a datamodule asks of its trainer, without starting processes."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        strategy=strategy, global_rank=rank, world_size=world_size, limit_train_batches=limit
    )


@pytest.mark.network
def test_mnist_is_what_torchvision_reads(mnist: MNISTDataModule, mnist_folder: Path) -> None:
    images = read_image_file(str(mnist_folder / "train-images-idx3-ubyte"))
    labels = read_label_file(str(mnist_folder / "train-labels-idx1-ubyte"))
    parts = dict(zip(("val", "train"), stratified_sample(labels, 5_000, seed=0), strict=True))
    for name, chosen in parts.items():
        assert torch.equal(mnist.split(name)[0][:, 0], images[chosen])
        assert torch.equal(mnist.split(name)[1], labels[chosen])
    assert torch.equal(
        mnist.split("test")[0][:, 0], read_image_file(str(mnist_folder / "t10k-images-idx3-ubyte"))
    )
    assert torch.equal(mnist.split("test")[1], read_label_file(str(mnist_folder / "t10k-labels-idx1-ubyte")))
    share = images.flatten().bincount().double() / images.numel()
    brightness = torch.arange(256) / 255
    mean = float(share @ brightness.double())
    assert mnist.mean == (round(mean, 4),)
    assert mnist.std == (round(float(share @ (brightness.double() - mean) ** 2) ** 0.5, 4),)


@pytest.mark.network
def test_mnist_describes_itself(mnist: MNISTDataModule) -> None:
    info = mnist.info
    assert info.input_shape == (1, 28, 28)
    assert (info.train_size, info.val_size, info.test_size) == (55_000, 5_000, 10_000)
    assert info.class_names == tuple("0123456789")


@pytest.mark.network
def test_mnist_split_is_stratified_and_depends_on_its_own_seed(
    mnist: MNISTDataModule, mnist_folder: Path
) -> None:
    train, val = (mnist.split(name)[1].bincount() for name in ("train", "val"))
    torch.testing.assert_close(val / 5_000, (train + val) / 60_000, atol=1 / 5_000, rtol=0)
    root = str(mnist_folder.parent)
    for config, seed, same in (
        (MNISTConfig(root=root), 9, True),
        (MNISTConfig(root=root, split_seed=1), 0, False),
    ):
        other = MNISTDataModule(config, seed=seed)
        assert torch.equal(other.split("val")[0], mnist.split("val")[0]) is same


@pytest.mark.network
def test_batches_are_normalised_and_carry_their_targets(mnist: MNISTDataModule) -> None:
    images, targets = next(iter(mnist.train_dataloader()))
    assert images.shape == (64, 1, 28, 28)
    assert images.dtype == torch.float32
    assert targets.dtype == torch.int64
    images, targets = next(iter(mnist.test_dataloader()))
    stored, labels = mnist.split("test")
    torch.testing.assert_close(images, (stored[:1000] / 255 - 0.1307) / 0.3081, atol=1e-5, rtol=1e-5)
    assert torch.equal(targets, labels[:1000])


@pytest.mark.network
def test_fashion_mnist_comes_through_the_same_reader(
    mnist_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str, root: str) -> Path:
        asked.append((name, root))
        return mnist_folder

    monkeypatch.setattr(mnist_module, "fetch", fetch)
    module = FashionMNISTDataModule(FashionMNISTConfig(root="elsewhere"))
    module.prepare_data()
    module.setup()
    assert set(asked) == {("fashion_mnist", "elsewhere")}
    assert module.info.class_names[9] == "Ankle boot"
    assert len(set(module.info.class_names)) == 10


def test_digits_are_scikit_learns() -> None:
    module = digits()
    module.setup()
    splits = [module.split(name) for name in ("train", "val", "test")]
    assert [len(images) for images, _ in splits] == [1257, 180, 360]
    ours = np.concatenate([np.concatenate([i.flatten(1), t[:, None]], axis=1) for i, t in splits])
    pixels, labels = load_digits(return_X_y=True)
    theirs = np.concatenate([np.round(pixels * 255 / 16), labels[:, None]], axis=1)
    np.testing.assert_array_equal(np.array(sorted(map(tuple, ours))), np.array(sorted(map(tuple, theirs))))
    shares = np.stack([np.bincount(t) / len(t) for _, t in splits])
    assert np.ptp(shares, axis=0).max() < 0.01
    scaled = torch.cat([i for i, _ in splits]).double() / 255
    assert module.mean == (round(float(scaled.mean()), 4),)
    assert module.std == (round(float(scaled.std()), 4),)


def test_digits_test_set_is_the_same_whatever_the_split() -> None:
    first, second = digits(), digits(split_seed=4, val_size=300, seed=3)
    assert torch.equal(first.split("test")[0], second.split("test")[0])
    assert second.info.val_size == 300


def test_train_samples_are_a_stratified_part_of_the_training_images() -> None:
    few, whole = digits(train_samples=100), digits()
    images, targets = few.split("train")
    assert len(images) == few.info.train_size == 100
    assert set(targets.bincount().tolist()) <= {9, 10, 11}
    known = {tuple(i.flatten().tolist()) for i in whole.split("train")[0]}
    assert all(tuple(i.flatten().tolist()) in known for i in images)
    assert torch.equal(few.split("val")[0], whole.split("val")[0])


@pytest.mark.parametrize("values", [{"val_size": 180, "train_samples": 9}])
def test_an_impossible_part_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sample of 9 is impossible"):
        digits(**values).setup()


def test_augmentation_is_for_training_alone() -> None:
    module = digits(augment=AugmentConfig(flip=1.0), eval_batch_size=2000)
    images, targets = next(iter(module.train_dataloader()))
    plain = digits()
    expected, labels = next(iter(plain.train_dataloader()))
    assert torch.equal(targets, labels)
    torch.testing.assert_close(images, expected.flip(-1))
    images, _ = next(iter(module.val_dataloader()))
    torch.testing.assert_close(images, plain.normalize(plain.split("val")[0]))


@pytest.mark.parametrize("pipeline", ["resident", "torchvision"])
def test_the_seed_decides_the_order(pipeline: str) -> None:
    def order(seed: int) -> list[int]:
        return torch.cat([t for _, t in digits(pipeline=pipeline, seed=seed).train_dataloader()]).tolist()

    assert order(1) == order(1) != order(2)


@pytest.mark.parametrize("pipeline", ["resident", "torchvision"])
def test_ranks_share_the_work(pipeline: str) -> None:
    targets = []
    for rank in range(2):
        module = digits(pipeline=pipeline, eval_batch_size=7)
        attach(module, rank=rank, world_size=2)
        assert len(module.train_dataloader()) == 10
        targets.append(torch.cat([t for _, t in module.val_dataloader()]))
    together = torch.stack(targets, dim=1).flatten()
    assert torch.equal(together, digits().split("val")[1])


@pytest.mark.parametrize("pipeline", ["resident", "torchvision"])
def test_the_trainers_limit_ends_the_epoch(pipeline: str) -> None:
    module = digits(pipeline=pipeline)
    attach(module, limit=3)
    loader = module.train_dataloader()
    assert len(list(loader)) == 3
    assert loader.state_dict() == {"epoch": 1, "batch": 0}
    attach(module, limit=1.0)
    assert len(module.train_dataloader()) == 20


def test_a_second_loader_shares_the_resident_tensors() -> None:
    module = digits()
    first, second = module.train_dataloader(), module.train_dataloader()
    assert first.tensors[0].data_ptr() == second.tensors[0].data_ptr()  # type: ignore[attr-defined]


class Recorder(L.LightningModule):
    """Notes what each training step was given; stops the run after a step, as a kill would."""

    def __init__(self, checkpoint: Path, stop_after: int | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.checkpoint, self.stop_after = checkpoint, stop_after
        self.seen: list[torch.Tensor] = []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        self.seen.append(batch[0])
        return self.layer(batch[0].flatten(1)).square().mean()

    def on_train_batch_end(self, *_: Any) -> None:
        if self.global_step == self.stop_after:
            self.trainer.save_checkpoint(self.checkpoint)
            raise InterruptedError

    def validation_step(self, *_: Any) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")  # Lightning's
def test_lightning_resumes_at_the_very_batch(tmp_path: Path, stop_after: int, limit: int | None) -> None:
    """Also on an epoch's last batch, the second or the third here."""

    def fit(stop_after: int | None = None, resume: bool = False) -> list[torch.Tensor]:
        recorder = Recorder(tmp_path / "last.ckpt", stop_after)
        trainer = L.Trainer(
            max_epochs=3,
            limit_train_batches=limit,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        data = digits(batch_size=500, seed=1, augment=AugmentConfig(rotation=5, shift=1))
        with contextlib.suppress(InterruptedError):
            trainer.fit(recorder, data, ckpt_path=recorder.checkpoint if resume else None)
        return recorder.seen

    whole = fit()
    assert len(whole) == 3 * (limit or 3)
    pieces = fit(stop_after) + fit(resume=True)
    assert len(pieces) == len(whole)
    assert all(torch.equal(a, b) for a, b in zip(pieces, whole, strict=True))


def test_folds_are_dealt_from_the_training_set_alone() -> None:
    tested = [digits(folds=4, fold=fold, train_samples=100) for fold in range(4)]
    images = [set(map(bytes, module.split("test")[0].flatten(1).numpy())) for module in tested]
    official = set(map(bytes, digits().split("test")[0].flatten(1).numpy()))
    assert [len(module.split("test")[0]) for module in tested] == [360, 359, 359, 359]
    assert not official & set.union(*images)
    assert len(set.union(*images)) == 1437
    assert {len(module.split("val")[0]) for module in tested} == {180}
    assert {len(module.split("train")[0]) for module in tested} == {100}


def test_a_long_tail_changes_the_training_split_alone() -> None:
    whole, tail = digits(), digits(imbalance=20)
    for name in ("val", "test"):
        assert torch.equal(whole.split(name)[0], tail.split(name)[0])
    counts = tail.split("train")[1].bincount()
    assert counts[0] == whole.split("train")[1].bincount().min()
    assert float(counts[0] / counts[-1]) == pytest.approx(20, rel=0.1)
    assert bool((counts.diff() < 0).all())
    assert tail.info.train_size == int(counts.sum())
    assert tail.notes == [f"training images of each class: {', '.join(map(str, counts.tolist()))}"]
    assert whole.notes == []


def test_two_views_are_changed_differently_and_repeatably() -> None:
    changes = AugmentConfig(shift=1, rotation=20)
    data = digits(views=2, augment=changes, batch_size=32)
    assert data.info.views == 2
    for part in ("train", "val", "test"):
        first, second, targets = next(iter(data.loader(part)))
        assert first.shape == second.shape
        assert len(targets) == len(first)
        assert not torch.equal(first, second)
        again = next(iter(digits(views=2, augment=changes, batch_size=32).loader(part)))
        assert all(torch.equal(a, b) for a, b in zip((first, second, targets), again, strict=True))
    with pytest.raises(ValueError, match=r"views: 2 needs data\.pipeline resident"):
        digits(views=2, pipeline="torchvision")
