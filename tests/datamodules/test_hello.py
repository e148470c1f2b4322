import pytest
import torch

from datamodules.configs.hello import HelloConfig
from datamodules.hello import HelloDataModule
from datamodules.info import SequenceLabellingInfo


def test_the_lesson_is_one_pair_for_every_purpose() -> None:
    data = HelloDataModule(HelloConfig())
    assert data.info == SequenceLabellingInfo(
        class_names=("e", "h", "l", "o"),
        vocab_size=4,
        context_length=5,
        train_size=1,
        val_size=1,
        test_size=1,
    )
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        ((x, y),) = list(loader)
        assert x.tolist() == [[1, 0, 2, 2, 3]]  # h e l l o
        assert y.tolist() == [[3, 1, 2, 3, 2]]  # o h l o l
        assert x.dtype == y.dtype == torch.int64


def test_any_word_will_do_and_the_alphabet_is_that_of_both() -> None:
    data = HelloDataModule(HelloConfig(text="hihell", target="ihello"))
    assert data.info.class_names == tuple("ehilo")
    ((x, y),) = list(data.train_dataloader())
    names = data.info.class_names
    assert ["".join(names[i] for i in row[0].tolist()) for row in (x, y)] == ["hihell", "ihello"]


def test_the_loader_says_where_it_is() -> None:
    loader = HelloDataModule(HelloConfig()).train_dataloader()
    assert len(loader) == 1
    list(loader)
    assert loader.state_dict() == {"epoch": 1, "batch": 0}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"text": "", "target": ""}, "text: it is empty"),
        ({"target": "ohlo"}, "'ohlo' has 4 characters and text 'hello' has 5"),
        ({"text": "hallo!"}, "'ohlol' has 5 characters and text 'hallo!' has 6"),
    ],
)
def test_refuses_words_that_do_not_match(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HelloConfig(**settings)
