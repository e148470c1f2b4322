"""DataInfo survives the trip through plain data."""

import json
from dataclasses import FrozenInstanceError

import pytest

from datamodules.info import DataInfo

INFO = DataInfo(
    input_shape=(1, 28, 28),
    class_names=("a", "b"),
    mean=(0.5,),
    std=(0.25,),
    tokenizer={"kind": "bpe", "tokens": ["a", "b", "ab"], "special_tokens": {"end": 2}},
    train_size=3,
)


def test_json_round_trip_is_equal_and_hashable() -> None:
    assert DataInfo.from_dict(json.loads(json.dumps(INFO.to_dict()))) == INFO
    assert DataInfo.from_dict({}) == DataInfo()
    assert hash(INFO) == hash(DataInfo.from_dict(INFO.to_dict()))


def test_plain_data_holds_no_tuples() -> None:
    assert {type(value) for value in INFO.to_dict().values()} == {list, str, int, float, bool, dict}


def test_plain_data_is_a_copy() -> None:
    INFO.to_dict()["tokenizer"]["tokens"].append("abab")
    assert INFO.tokenizer["tokens"] == ["a", "b", "ab"]


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValueError, match="'colour'"):
        DataInfo.from_dict({"colour": 1})


def test_it_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        INFO.mean = ()  # type: ignore[misc]
