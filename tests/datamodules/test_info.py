"""Every description of data survives the trip through plain data, and older ones are still read."""

import json
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Any

import pytest

from datamodules.info import (
    DataInfo,
    ImageInfo,
    LabelledTableInfo,
    LabelledTextInfo,
    SequenceLabellingInfo,
    SequencePairInfo,
    TableInfo,
    TextInfo,
    VectorPairInfo,
    info_from_dict,
)

TOKENIZER = {"kind": "bpe", "tokens": ["a", "b", "ab"], "special_tokens": {"end": 2}}
IMAGES = ImageInfo(
    input_shape=(1, 28, 28), class_names=("a", "b"), mean=(0.5,), std=(0.25,), object_size=20, train_size=3
)
INFOS = [
    DataInfo(test_size=7),
    replace(IMAGES, object_center="mass"),
    TextInfo(vocab_size=3, context_length=8, tokenizer=TOKENIZER, bytes_per_token=1.5, continuous=True),
    SequenceLabellingInfo(class_names=("a", "b"), vocab_size=2, context_length=4),
    LabelledTextInfo(class_names=("a", "b"), vocab_size=3, context_length=8, tokenizer=TOKENIZER),
    SequencePairInfo(
        source_vocabulary=("x",), target_vocabulary=("y",), source_length=3, target_length=4, train_size=9
    ),
    LabelledTableInfo(
        input_shape=(2,), feature_names=("x", "y"), mean=(0.0, 1.0), std=(1.0, 2.0), class_names=("a", "b")
    ),
    TableInfo(
        input_shape=(1,),
        feature_names=("x",),
        mean=(0.0,),
        std=(1.0,),
        target_names=("y",),
        target_mean=(2.0,),
        target_std=(3.0,),
    ),
    VectorPairInfo(
        input_shape=(2,), mean=(0.0, 1.0), std=(1.0, 2.0), target_scale=0.5, steering={"model": "tiny"}
    ),
]
EMPTY: dict[str, Any] = {
    "input_shape": [],
    "class_names": [],
    "mean": [],
    "std": [],
    "target_scale": 0.0,
    "steering": {},
    "object_size": 0,
    "object_center": "box",
    "vocab_size": 0,
    "context_length": 0,
    "tokenizer": {},
    "continuous": False,
    "bytes_per_token": 0.0,
    "test_bytes_per_token": 0.0,
    "source_vocabulary": [],
    "target_vocabulary": [],
    "source_length": 0,
    "target_length": 0,
    "target_groups": [],
    "train_size": 0,
    "val_size": 0,
    "test_size": 0,
    "error_names": ["token", "sequence", "lenient"],
}
"""The keys of older versions, which had one description for all kinds of data."""


def kind(info: DataInfo) -> str:
    return info.kind


@pytest.mark.parametrize("info", INFOS, ids=kind)
def test_json_round_trip_is_equal_and_hashable(info: DataInfo) -> None:
    again = info_from_dict(json.loads(json.dumps(info.to_dict())))
    assert again == info
    assert type(again) is type(info)
    assert hash(again) == hash(info)


@pytest.mark.parametrize("info", INFOS, ids=kind)
def test_the_kind_of_an_older_description_is_inferred(info: DataInfo) -> None:
    values = info.to_dict()
    del values["kind"]
    assert info_from_dict(EMPTY | values) == info


@pytest.mark.parametrize("info", INFOS, ids=kind)
def test_plain_data_holds_no_tuples(info: DataInfo) -> None:
    assert {type(value) for value in info.to_dict().values()} <= {list, str, int, float, bool, dict}


def test_plain_data_is_a_copy() -> None:
    info = TextInfo(vocab_size=3, context_length=8, tokenizer=json.loads(json.dumps(TOKENIZER)))
    info.to_dict()["tokenizer"]["tokens"].append("abab")
    assert info.tokenizer == TOKENIZER


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "images", "colour": 1}, "description of images has unknown keys colour"),
        ({"colour": 1}, "no kind of data has the keys colour"),
        (
            {"kind": "images", "mean": [0.5]},
            "description of images lacks the keys class_names, input_shape, std",
        ),
        ({"kind": "smells"}, "unknown kind of data 'smells'; known are other, images, text"),
    ],
)
def test_what_is_unknown_or_missing_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        info_from_dict(values)


def test_a_new_kind_is_a_subclass() -> None:
    @dataclass(frozen=True, kw_only=True)
    class GraphInfo(DataInfo):
        kind = "graphs"
        nodes: int

    assert info_from_dict(GraphInfo(nodes=3).to_dict()) == GraphInfo(nodes=3)


def test_it_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        IMAGES.mean = ()  # type: ignore[misc]
