"""The text datamodules on real text."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch

from datamodules.configs.token_corpus import (
    ShakespeareConfig,
    TextConfig,
    TinyShakespeareConfig,
    TokenizerConfig,
)
from datamodules.loading.token_windows import IGNORED
from datamodules.token_corpus import (
    ShakespeareDataModule,
    TextDataModule,
    TinyShakespeareDataModule,
    TokenCorpusDataModule,
)
from datamodules.tokenizers import tokenizer_from_dict

SOURCE = Path(__file__)


@pytest.fixture
def text(tmp_path: Path) -> Any:
    """Build datamodules of this file's text in their own folder."""

    def build(*, seed: int = 0, **values: Any) -> TextDataModule:
        settings = {
            "path": str(SOURCE),
            "context_length": 16,
            "batch_size": 4,
            "eval_batch_size": 3,
            **values,
        }
        return TextDataModule(TextConfig(root=str(tmp_path / "root"), **settings), seed=seed)

    return build


def attach(
    module: TokenCorpusDataModule, *, rank: int = 0, world_size: int = 1, limit: int | float = 1.0
) -> None:
    """Attach a trainer with ranks, but without processes."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        strategy=strategy, global_rank=rank, world_size=world_size, limit_train_batches=limit
    )


@pytest.mark.network
def test_tiny_shakespeare_is_the_published_corpus(data_root: Path) -> None:
    module = TinyShakespeareDataModule(TinyShakespeareConfig(root=str(data_root)))
    module.prepare_data()
    info = module.info
    assert info.vocab_size == 65
    assert (len(module.tokens("train")), len(module.tokens("val"))) == (1_003_854, 111_540)
    assert module.tokens("test") is module.tokens("val")
    assert (info.train_size, info.val_size, info.test_size) == (3922, 436, 436)
    assert info.bytes_per_token == info.test_bytes_per_token == 1
    assert module.tokenizer.decode(module.tokens("train")[:14].tolist()) == "First Citizen:"
    assert module.tokenizer.decode(module.tokens("val")[:12].tolist()) == "?\n\nGREMIO:\nG"


@pytest.mark.network
def test_all_of_shakespeare_is_parted_three_ways(data_root: Path) -> None:
    module = ShakespeareDataModule(ShakespeareConfig(root=str(data_root)))
    module.setup()
    assert [len(module.tokens(name)) for name in ("train", "val", "test")] == [4_498_364, 249_909, 249_910]
    assert module.info.vocab_size == 80
    assert module.tokenizer.decode(module.tokens("train")[:25].tolist()) == "A Midsummer Night's Dream"
    x, y = next(iter(module.train_dataloader()))
    assert x.shape == (32, 256)
    assert torch.equal(x[:, 1:], y[:, :-1])


@pytest.mark.parametrize("kind", ["character", "byte", "bpe"])
def test_it_describes_itself(text: Any, kind: Any) -> None:
    module = text(tokenizer=TokenizerConfig(kind=kind, vocab_size=300))
    info = module.info
    tokenizer = tokenizer_from_dict(info.tokenizer)
    assert info.vocab_size == tokenizer.vocab_size == module.tokenizer.vocab_size
    assert info.context_length == 16
    assert not info.continuous
    assert text(sampling="sequential").info.continuous
    for name, size, density in (
        ("train", info.train_size, None),
        ("val", info.val_size, info.bytes_per_token),
        ("test", info.test_size, info.test_bytes_per_token),
    ):
        tokens = module.tokens(name)
        assert size == -(-(len(tokens) - 1) // 16)
        if density:
            predicted = [len(tokenizer.token_bytes(id)) for id in tokens[1:].tolist()]
            assert density == pytest.approx(sum(predicted) / len(predicted))
    whole = [id for name in ("train", "val", "test") for id in module.tokens(name).tolist()]
    assert tokenizer.decode(whole) == SOURCE.read_text(encoding="utf-8")


def test_a_folder_is_a_text(text: Any, tmp_path: Path) -> None:
    (tmp_path / "texts" / "b").mkdir(parents=True)
    (tmp_path / "texts" / "b" / "one.txt").write_text("one " * 300)
    (tmp_path / "texts" / "a.txt").write_text("two " * 300)
    module = text(path=str(tmp_path / "texts"))
    assert module.tokenizer.decode(module.tokens("train")[:8].tolist()) == "two two "


@pytest.mark.parametrize("sampling", ["random", "sequential"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_an_evaluation_scores_each_token_once_over_all_ranks(
    text: Any, sampling: Any, world_size: int
) -> None:
    targets = []
    for rank in range(world_size):
        module = text(sampling=sampling)
        attach(module, rank=rank, world_size=world_size)
        batches = list(module.test_dataloader())
        targets += [y[y != IGNORED] for _, y in batches]
        assert len(batches) == len(module.test_dataloader()) > 1
    scored = torch.cat(targets).sort().values
    assert torch.equal(scored, torch.from_numpy(module.tokens("test")[1:].astype("int64")).sort().values)


def test_sequential_training_reads_each_token_once_an_epoch(text: Any) -> None:
    module = text(sampling="sequential")
    seen = torch.cat([y[y != IGNORED] for _, y in module.train_dataloader()])
    assert torch.equal(
        seen.sort().values, torch.from_numpy(module.tokens("train")[1:].astype("int64")).sort().values
    )


@pytest.mark.parametrize("sampling", ["random", "sequential"])
def test_training_windows_may_be_shorter_than_those_of_the_evaluation(text: Any, sampling: Any) -> None:
    module = text(sampling=sampling, train_context_length=5)
    assert {x.shape[1] for x, _ in module.train_dataloader()} <= {4, 5}  # streams are divided evenly
    assert max(x.shape[1] for x, _ in module.test_dataloader()) > 12
    assert module.info.train_length == 5
    assert module.info.train_size == -(-(len(module.tokens("train")) - 1) // 5)
    assert text(sampling=sampling).info.train_length == 16


def test_training_windows_longer_than_the_context_are_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="train_context_length: 17 exceeds context_length 16; lower it"):
        text(train_context_length=17)


def test_few_tokens_are_evaluated_in_fewer_streams(text: Any) -> None:
    module = text(sampling="sequential", eval_batch_size=1000)
    batches = list(module.val_dataloader())
    assert sum(x.shape[1] for x, _ in batches) >= 16  # each stream is a window long
    assert sum(int((y != IGNORED).sum()) for _, y in batches) == len(module.tokens("val")) - 1


def test_an_epoch_is_as_many_random_batches_as_asked(text: Any) -> None:
    module = text(steps_per_epoch=7)
    assert len(list(module.train_dataloader())) == 7
    attach(module, limit=3)
    loader = module.train_dataloader()
    assert len(list(loader)) == 3
    assert loader.state_dict() == {"epoch": 1, "batch": 0}


def test_the_seed_decides_the_windows(text: Any) -> None:
    first, again, other = (next(iter(text(seed=s).train_dataloader()))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_second_loader_shares_the_tokens(text: Any) -> None:
    module = text()
    first, second = module.train_dataloader(), module.train_dataloader()
    assert first.tokens.data_ptr() == second.tokens.data_ptr()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the corpus is empty"),
        (b"short", "the val split is empty"),
        (
            b"a text of some length" * 5,
            "the val split has 5 tokens, too few for a window of context_length 16",
        ),
        (b"fine so far \xff" * 100, "is not UTF-8: invalid start byte at byte 12"),
        (None, "there is no file or folder"),
    ],
)
def test_an_unusable_text_is_refused_in_one_line(
    text: Any, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    module = text(path=str(path))
    with pytest.raises(ValueError, match=message) as error:
        module.setup()
    assert "\n" not in str(error.value)
    assert path.exists() is (content is not None)
    assert content is None or path.read_bytes() == content


def test_streams_longer_than_the_text_are_refused(text: Any) -> None:
    module = text(sampling="sequential", batch_size=5000)
    with pytest.raises(
        ValueError, match=r"batch_size 5000 streams of context_length 16 need 80001; lower one"
    ):
        module.setup()


class Recorder(L.LightningModule):
    """Records the batches of training steps; stops after a step like a killed process."""

    def __init__(self, checkpoint: Path, stop_after: int | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 1)
        self.checkpoint, self.stop_after = checkpoint, stop_after
        self.seen: list[torch.Tensor] = []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        self.seen.append(batch[0])
        return self.layer.weight.square().mean()

    def on_train_batch_end(self, *_: Any) -> None:
        if self.global_step == self.stop_after:
            self.trainer.save_checkpoint(self.checkpoint)
            raise InterruptedError

    def validation_step(self, *_: Any) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("sampling", ["random", "sequential"])
@pytest.mark.parametrize("stop_after", [1, 3, 4, 5])
def test_lightning_resumes_at_the_very_batch(
    text: Any, tmp_path: Path, sampling: Any, stop_after: int
) -> None:
    """This includes the last batch of an epoch, here the fourth."""

    def fit(stop_after: int | None = None, resume: bool = False) -> list[torch.Tensor]:
        recorder = Recorder(tmp_path / "last.ckpt", stop_after)
        trainer = L.Trainer(
            max_epochs=3,
            limit_train_batches=4,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with contextlib.suppress(InterruptedError):
            trainer.fit(
                recorder, text(sampling=sampling, seed=1), ckpt_path=recorder.checkpoint if resume else None
            )
        return recorder.seen

    whole = fit()
    assert len(whole) == 12
    pieces = fit(stop_after) + fit(resume=True)
    assert len(pieces) == len(whole)
    assert all(torch.equal(a, b) for a, b in zip(pieces, whole, strict=True))


def test_validation_and_test_may_have_texts_of_their_own(text: Any, tmp_path: Path) -> None:
    val, test = tmp_path / "val.txt", tmp_path / "test.txt"
    val.write_text("Validation, in its own words. " * 3)
    test.write_text("Something else for the test. " * 3)
    whole = SOURCE.read_text()

    def read(module: TextDataModule, name: str) -> str:
        return module.tokenizer.decode(module.tokens(name).tolist())

    both = text(val_path=str(val), test_path=str(test))
    assert [read(both, name) for name in ("train", "val", "test")] == [
        whole,
        val.read_text(),
        test.read_text(),
    ]
    one = text(val_path=str(val), test_fraction=0.1)
    assert read(one, "val") == val.read_text()
    assert read(one, "train") + read(one, "test") == whole
    assert len(read(one, "test")) == len(whole) - int(len(whole) * 0.9)
    none = text(val_path=str(val), test_fraction=0.0)
    assert (read(none, "train"), read(none, "test")) == (whole, val.read_text())
    val.write_text("")
    with pytest.raises(ValueError, match="the val split is empty"):
        text(val_path=str(val)).setup()


def test_folds_of_a_text_are_its_parts_in_order(text: Any) -> None:
    whole = SOURCE.read_text()

    def read(module: TextDataModule, name: str) -> str:
        return module.tokenizer.decode(module.tokens(name).tolist())

    folds = [text(folds=3, fold=fold, val_fraction=0.1) for fold in range(3)]
    tested = [read(module, "test") for module in folds]
    assert abs(len("".join(tested)) - len(whole)) <= 3
    for module, part in zip(folds, tested, strict=True):
        assert part in whole
        rest = read(module, "train") + read(module, "val")
        assert rest + part in whole + whole
        assert len(rest + part) == len(whole)
