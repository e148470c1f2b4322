import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.errors import UserError
from experiments.language_models.opening import open_trained
from experiments.training import checkpoint


def change(run: Path, to: Path, **entries: Any) -> Path:
    """A copy of the run's checkpoint with some entries of its data description changed."""
    saved = checkpoint.load(run / "checkpoints" / "best.ckpt")
    saved["info"] |= entries
    torch.save(saved, to)
    return to


def test_a_checkpoint_alone_gives_network_and_vocabulary(language_run: Path, tmp_path: Path) -> None:
    shutil.copy(language_run / "checkpoints" / "best.ckpt", tmp_path / "moved.ckpt")
    model = open_trained(tmp_path / "moved.ckpt")
    ids = model.tokenizer.encode("the café")
    assert model.tokenizer.decode(ids) == "the café"
    assert model.network(torch.tensor([ids])).shape == (1, 8, model.tokenizer.vocab_size)
    assert not model.network.training
    assert model.context_length == 16
    assert model.chat is None


def test_a_model_of_something_else_is_named(tiny: dict[str, Any]) -> None:
    import experiments

    run = experiments.run(tiny, "trainer.max_epochs=1").run_dir
    with pytest.raises(
        UserError, match=r"is not a language model: it was trained with the model 'mlp' on the data"
    ):
        open_trained(run)


def test_a_vocabulary_that_is_not_the_networks_is_refused(language_run: Path, tmp_path: Path) -> None:
    tokenizer = {"kind": "character", "alphabet": "abc"}
    path = change(language_run, tmp_path / "a.ckpt", tokenizer=tokenizer)
    with pytest.raises(
        UserError, match=r"vocabulary in .*a\.ckpt does not match the network: 3 tokens, but the"
    ):
        open_trained(path)
    path = change(language_run, tmp_path / "b.ckpt", tokenizer={"kind": "character"})
    with pytest.raises(
        UserError, match=r"cannot read the vocabulary in .*b\.ckpt: a character tokenizer's data"
    ):
        open_trained(path)
