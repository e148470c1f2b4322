"""Invalid plain data of a tokenizer."""

from typing import Any

import pytest

from datamodules.tokenizers import ByteTokenizer, tokenizer_from_dict

BPE = {
    "kind": "bpe",
    "implementation": "library",
    "tokens": ["a", "b", "ab"],
    "merges": ["a b"],
    "special_tokens": [],
    "individual_digits": False,
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "kind None is unknown; known kinds: character, byte, published, bpe"),
        ({"kind": "words"}, "kind 'words' is unknown"),
        ({"kind": ["byte"]}, "is unknown"),
        ({"kind": "byte", "alphabet": "a"}, r"byte tokenizer's data has \['alphabet'\], expected \[\]"),
        ({"kind": "character"}, r"data has \[\], expected \['alphabet'\]"),
        ({"kind": "character", "alphabet": ["a"]}, "alphabet must be a str, not list"),
        ({"kind": "character", "alphabet": ""}, "alphabet is empty"),
        ({**BPE, "implementation": "os.system"}, "'os.system' is unknown; known implementations: library"),
        ({**BPE, "tokens": {"a": 0}}, "tokens must be a list, not dict"),
        ({**BPE, "individual_digits": 1}, "individual_digits must be a bool, not int"),
        ({**BPE, "merges": ["b a"]}, "lacks the token 'ba'"),
        ({**BPE, "special_tokens": [["a"]]}, "special token's name must be a string"),
    ],
)
def test_invalid_data_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer_from_dict(values)


def test_the_given_data_is_left_alone() -> None:
    values = dict(ByteTokenizer().to_dict())
    assert isinstance(tokenizer_from_dict(values), ByteTokenizer)
    assert values == {"kind": "byte"}
    tokenizer_from_dict(BPE).encode("ab")
    assert BPE["tokens"] == ["a", "b", "ab"]
