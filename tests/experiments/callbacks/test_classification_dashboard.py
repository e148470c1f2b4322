import io
import math
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from sklearn import metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from experiments.callbacks.classification_dashboard import (
    ClassificationDashboard,
    confusion_counts,
    first_layer_filters,
    mistake_table,
    per_class_accuracy,
    worst_mistakes,
)
from experiments.training.confusion import read_confusion

# Lightning 2.6 asks PyTorch's pytree in a way that PyTorch 2.15 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")

NAMES = ("cat", "dog", "owl")


class Batches:
    def __init__(self, images, targets, size):
        self.batches = [
            (i.float() / 255, t) for i, t in zip(images.split(size), targets.split(size), strict=True)
        ]

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class Data(L.LightningDataModule):
    info = SimpleNamespace(class_names=NAMES, input_shape=(1, 6, 6))

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.splits = {
            name: (
                torch.randint(0, 256, (size, 1, 6, 6), generator=generator, dtype=torch.uint8),
                torch.randint(0, 3, (size,), generator=generator),
            )
            for name, size in (("train", 8), ("val", 50), ("test", 21))
        }

    def split(self, name):
        return self.splits[name]

    def train_dataloader(self):
        return Batches(*self.split("train"), 4)

    def val_dataloader(self):
        return Batches(*self.split("val"), 16)

    def test_dataloader(self):
        return Batches(*self.split("test"), 16)


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
        self.head = nn.Linear(64, 3)

    def forward(self, images):
        return self.head(self.body(images))

    def features(self, images):
        return self.body(images)

    def training_step(self, batch, batch_idx):
        images, targets = batch
        logits = self(images)
        loss = nn.functional.cross_entropy(logits, targets)
        return {"loss": loss, "logits": logits, "targets": targets}

    def validation_step(self, batch, batch_idx):
        return self.training_step(batch, batch_idx)

    def test_step(self, batch, batch_idx):
        return self.training_step(batch, batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder, **options):
    return L.Trainer(
        accelerator="cpu",
        **{"max_epochs": 2, "num_sanity_val_steps": 1, "log_every_n_steps": 1, **options},
        callbacks=[ClassificationDashboard()],
        logger=TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def read(folder):
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def steps(events, tag):
    return [event.step for event in events.Images(tag)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fit of two epochs and a test: the trained model, its data and what TensorBoard reads."""
    folder = tmp_path_factory.mktemp("run")
    model, data = Model(), Data()
    fit = trainer(folder)
    fit.fit(model, datamodule=data)
    fit.test(model, datamodule=data, verbose=False)
    model.eval()
    return SimpleNamespace(model=model, data=data, events=read(folder), folder=folder / "tensorboard")


def outputs(run, stage):
    images, targets = run.data.split(stage)
    with torch.no_grad():
        return run.model(images.float() / 255), targets


def test_pictures_of_validation_filters_and_test(run):
    assert set(run.events.Tags()["images"]) == {
        "val/confusion_matrix",
        "val/worst_mistakes",
        "weights/first_layer",
        "test/confusion_matrix",
        "test/worst_mistakes",
    }
    assert steps(run.events, "val/confusion_matrix") == [2, 4]
    assert steps(run.events, "val/worst_mistakes") == [2, 4]
    assert steps(run.events, "weights/first_layer") == [0, 4]
    assert steps(run.events, "test/worst_mistakes") == [4]


def test_accuracy_per_class_is_recall(run):
    logits, targets = outputs(run, "val")
    recall = metrics.recall_score(targets, logits.argmax(1), average=None)
    for name, value in zip(NAMES, recall, strict=True):
        first, last = run.events.Scalars(f"val_class/{name}")
        assert (first.step, last.step) == (2, 4)
        assert last.value == pytest.approx(value)


def test_precision_recall_curves_are_scikit_learns(run):
    logits, targets = outputs(run, "val")
    scores = logits.softmax(1)[:, 1]
    (_, last) = run.events.Tensors("val_pr/dog")
    *_, precision, recall = np.array(last.tensor_proto.float_val).reshape(6, 127)
    for i in (0, 30, 50, 60):  # the threshold of bucket i is i / 126
        said = scores >= i / 126
        kept = {"y_true": targets == 1, "y_pred": said, "zero_division": 0.0}
        assert precision[i] == pytest.approx(metrics.precision_score(**kept))
        assert recall[i] == pytest.approx(metrics.recall_score(**kept))


def test_the_worst_mistake_is_drawn_first(run):
    logits, targets = outputs(run, "test")
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    wrong = [i for i in range(len(targets)) if logits[i].argmax() != targets[i]]
    worst = max(wrong, key=lambda i: losses[i])
    assert (first_tile(run.events) == run.data.split("test")[0][worst, 0].numpy()).all()


def first_tile(events):
    """The first picture of the test's worst mistakes, shrunk to the sample's size."""
    (event,) = events.Images("test/worst_mistakes")
    picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    side = round(56 / 6)
    return picture[26 : 26 + 6 * side : side, 6 : 6 + 6 * side : side, 0]


def test_the_tests_confusion_matrix_is_kept_beside_the_run(run):
    logits, targets = outputs(run, "test")
    kept = read_confusion(run.folder.parent)
    assert kept.class_names == NAMES
    assert (np.array(kept.counts) == metrics.confusion_matrix(targets, logits.argmax(1))).all()


def test_the_projector_gets_features_labels_and_sprites(run):
    (folder,) = run.folder.glob("*/penultimate_layer")
    images, targets = run.data.split("val")
    shown = np.loadtxt(folder / "tensors.tsv", delimiter="\t")
    with torch.no_grad():
        expected = run.model.features(images.float() / 255)
    np.testing.assert_allclose(shown, expected, rtol=1e-5, atol=1e-6)
    labels = (folder / "metadata.tsv").read_text().split()
    assert labels == [NAMES[i] for i in targets]
    sprites = np.asarray(Image.open(folder / "sprite.png"))
    assert sprites.shape == (48, 48, 3)  # 8 × 8 places for 50 images
    assert np.abs(sprites[:6, 6:12, 0].astype(int) - images[1, 0].numpy()).max() <= 1
    assert str(folder.relative_to(run.folder)) in (run.folder / "projector_config.pbtxt").read_text()


def test_a_network_without_features_has_no_embedding(tmp_path):
    model = Model()
    model.has_features = False
    trainer(tmp_path, max_epochs=1).fit(model, datamodule=Data())
    assert "val/confusion_matrix" in read(tmp_path).Tags()["images"]
    assert not list(tmp_path.rglob("penultimate_layer"))


def test_rank_zero_of_two_finds_the_images_of_its_own_share(tmp_path, monkeypatch):
    class Share(Data):
        def test_dataloader(self):
            images, targets = self.split("test")
            return Batches(images[::2], targets[::2], 4)

    model, data = Model(), Share()
    monkeypatch.setattr(L.Trainer, "world_size", 2)
    trainer(tmp_path).test(model, datamodule=data, verbose=False)
    images, targets = data.split("test")
    with torch.no_grad():
        logits = model.eval()(images.float() / 255)
    p_true = logits.softmax(1)[torch.arange(21), targets]
    worst = min((i for i in range(0, 21, 2) if logits[i].argmax() != targets[i]), key=lambda i: p_true[i])
    assert (first_tile(read(tmp_path)) == images[worst, 0].numpy()).all()


def test_the_layout_is_written(run):
    assert len(run.events.Tensors("custom_scalars__config__")) == 1


def test_everything_is_in_one_folder(run):
    assert len(list(run.folder.glob("events*"))) >= 1
    assert {p.parent for p in run.folder.parent.rglob("events*")} == {run.folder}


def test_a_resumed_fit_goes_on_in_the_same_folder_and_draws_no_untrained_filters(tmp_path):
    first = trainer(tmp_path, max_epochs=1)
    first.fit(Model(), datamodule=Data())
    first.save_checkpoint(tmp_path / "last.ckpt")
    second = trainer(tmp_path, max_epochs=3)
    second.fit(Model(), datamodule=Data(), ckpt_path=str(tmp_path / "last.ckpt"), weights_only=True)
    events = read(tmp_path)
    # Files of one second are read in the order of their names, where a file 10 comes before a file 9.
    assert sorted(e.step for e in events.Scalars("val_class/cat")) == [2, 4, 6]
    assert sorted(steps(events, "weights/first_layer")) == [0, 2, 6]


def test_a_fit_that_stops_early_still_shows_its_last_validation(tmp_path):
    class StopsAfterTwo(Model):
        def on_validation_end(self):
            self.trainer.should_stop = self.current_epoch == 1

    trainer(tmp_path, max_epochs=30).fit(StopsAfterTwo(), datamodule=Data())
    assert steps(read(tmp_path), "val/confusion_matrix") == [4]


def test_without_tensorboard_nothing_is_drawn(tmp_path):
    quiet = trainer(tmp_path, default_root_dir=tmp_path)
    quiet.loggers = []
    quiet.fit(Model(), datamodule=Data())
    assert not list(tmp_path.iterdir())


def test_confusion_counts_are_scikit_learns():
    generator = torch.Generator().manual_seed(1)
    logits, targets = (
        torch.randn(200, 5, generator=generator),
        torch.randint(0, 4, (200,), generator=generator),
    )
    counts = confusion_counts(logits, targets)
    expected = metrics.confusion_matrix(targets, logits.argmax(1), labels=range(5))
    assert (counts.numpy() == expected).all()
    accuracies = per_class_accuracy(counts)
    assert accuracies[:4] == pytest.approx(
        metrics.recall_score(targets, logits.argmax(1), average=None, labels=range(4))
    )
    assert math.isnan(accuracies[4])


def test_worst_mistakes_are_wrong_and_sorted():
    generator = torch.Generator().manual_seed(2)
    logits, targets = (
        torch.randn(300, 4, generator=generator),
        torch.randint(0, 4, (300,), generator=generator),
    )
    chosen = worst_mistakes(logits, targets, 20)
    p_true = logits.softmax(1)[torch.arange(300), targets]
    wrong = sorted((p_true[i].item(), i) for i in range(300) if logits[i].argmax() != targets[i])
    assert chosen.tolist() == [i for _, i in wrong[:20]]
    assert worst_mistakes(logits, logits.argmax(1), 20).tolist() == []
    # Logits so large that every probability is 0 or 1 still have an order.
    extreme = torch.tensor([[1e4, 0.0], [2e4, 0.0]])
    assert worst_mistakes(extreme, torch.tensor([1, 1]), 2).tolist() == [1, 0]


def test_filters_of_first_layers():
    convolution = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Linear(2, 2))
    assert torch.equal(first_layer_filters(convolution, (3, 9, 9)), convolution[0].weight)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 7))
    filters = first_layer_filters(linear, (3, 2, 2))
    image = torch.randn(1, 3, 2, 2)
    torch.testing.assert_close((filters * image).sum((1, 2, 3)) + linear[1].bias, linear(image)[0])
    assert first_layer_filters(nn.Linear(5, 5), (3, 2, 2)) is None
    assert first_layer_filters(nn.ReLU(), (3, 2, 2)) is None


class TextData(L.LightningDataModule):
    """Texts of one token each, which a linear layer gets wrong in part."""

    info = SimpleNamespace(class_names=NAMES, input_shape=())

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.splits = {
            name: (torch.rand(size, 4, generator=generator), torch.randint(3, (size,), generator=generator))
            for name, size in (("train", 8), ("val", 30), ("test", 20))
        }

    def split(self, name):
        return self.splits[name]

    def texts(self, name):
        return [f"{name} number {i}" for i in range(len(self.splits[name][0]))]

    def train_dataloader(self):
        return DataLoader(TensorDataset(*self.split("train")), batch_size=4)

    def val_dataloader(self):
        return DataLoader(TensorDataset(*self.split("val")), batch_size=16)

    def test_dataloader(self):
        return DataLoader(TensorDataset(*self.split("test")), batch_size=16)


class TextModel(Model):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 64))


def test_mistakes_of_texts_are_shown_in_words(tmp_path):
    model, data = TextModel(), TextData()
    fit = trainer(tmp_path)
    fit.fit(model, datamodule=data)
    fit.test(model, datamodule=data, verbose=False)
    events = read(tmp_path)
    assert set(events.Tags()["images"]) == {"val/confusion_matrix", "test/confusion_matrix"}
    (shown,) = events.Tensors("test/worst_mistakes/text_summary")
    lines = shown.tensor_proto.string_val[0].decode().splitlines()
    inputs, targets = data.split("test")
    with torch.no_grad():
        logits = model.eval()(inputs)
    chosen = worst_mistakes(logits, targets, 24)
    assert len(lines) == 2 + len(chosen)
    worst = int(chosen[0])
    predicted = int(logits[worst].argmax())
    probability = float(logits[worst].softmax(0)[predicted])
    expected = f"| {NAMES[targets[worst]]} | {NAMES[predicted]} | {probability:.2f} | test number {worst} |"
    assert lines[2] == expected
    (folder,) = (tmp_path / "tensorboard").glob("*/penultimate_layer")
    assert (folder / "metadata.tsv").read_text().split() == [NAMES[i] for i in data.split("val")[1]]
    assert not (folder / "sprite.png").exists()


def test_a_text_cannot_break_the_table():
    table = mistake_table(["two\nlines | and a bar"], ["cat"], ["dog"], [0.5])
    assert table.splitlines()[2] == r"| cat | dog | 0.50 | two lines \| and a bar |"
