"""The vocabulary in a GGUF file's metadata."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers

from datamodules.assets.fetch import fetch
from datamodules.tokenizers import LibraryBytePairTokenizer, tokenizer_of_gguf, train_byte_pairs

SPECIAL = ["<|endoftext|>", "<|user|>"]


@pytest.fixture
def entries(hard_texts: list[str]) -> dict[str, Any]:
    trained = train_byte_pairs(hard_texts * 2, 400, individual_digits=True)
    return {
        "ggml.model": "gpt2",
        "ggml.pre": "smollm",
        "ggml.tokens": [*SPECIAL, *trained.tokens],
        "ggml.token_type": [3, 4] + [1] * len(trained.tokens),
        "ggml.merges": trained.merges,
        "ggml.add_bos_token": False,
        "chat_template": "{{ anything }}",
    }


@pytest.mark.parametrize(("name", "digits"), [("smollm", True), ("gpt-2", False)])
def test_it_is_the_tokenizer_of_these_tokens(
    entries: dict[str, Any], hard_texts: list[str], name: str, digits: bool
) -> None:
    tokenizer = tokenizer_of_gguf(entries | {"ggml.pre": name})
    expected = LibraryBytePairTokenizer(
        entries["ggml.tokens"], entries["ggml.merges"], special_tokens=SPECIAL, individual_digits=digits
    )
    assert tokenizer.to_dict() == expected.to_dict()
    assert tokenizer.special_tokens == {"<|endoftext|>": 0, "<|user|>": 1}
    assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in hard_texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ggml.model": "llama"}, "tokenizer.ggml.model = 'llama' isn't implemented, only 'gpt2'"),
        (
            {"ggml.pre": "llama-bpe"},
            "tokenizer.ggml.pre = 'llama-bpe' isn't implemented, only 'gpt-2', 'smollm'",
        ),
        ({"ggml.add_bos_token": True}, "tokenizer.ggml.add_bos_token = True isn't implemented, only False"),
        ({"ggml.merges": None}, "lacks one of tokenizer.ggml.tokens, .merges and .token_type"),
        ({"ggml.token_type": [1]}, "402 tokens but 1 token types"),
        ({"ggml.merges": ["a nonsense"]}, "lacks the token 'nonsense'"),
    ],
)
def test_an_unimplemented_setting_is_refused_by_name(
    entries: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer_of_gguf(entries | changes)


@pytest.mark.network
@pytest.mark.slow
def test_smollm2s_ids_are_those_of_transformers(data_root: Path, hard_texts: list[str]) -> None:
    """Use the real file; transformers' reader does not split digits, so add that step."""
    transformers = pytest.importorskip("transformers")
    from lit_modules.pretrained.gguf import read_gguf

    path = fetch("smollm2", data_root) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    ours = tokenizer_of_gguf(read_gguf(path).tokenizer)
    assert ours.vocab_size == 49152
    assert list(ours.special_tokens.values()) == list(range(17))
    assert ours.special_tokens["<|im_end|>"] == 2
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    absent = set(range(256)) - {byte for token in range(17, 49152) for byte in ours.token_bytes(token)}
    assert len(absent) == 21  # some control characters, and bytes that no character or few ones have
    for text in (*hard_texts, "def f(x):\n    return x**2  # it's 1984", "3.14159 and  2,718"):
        if absent & set(text.encode()):
            with pytest.raises(ValueError, match="the vocabulary of 49152 has no token for its byte"):
                ours.encode(text)
            continue
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert ours.decode(ours.encode(text)) == text
    chat = "<|im_start|>user\nHi<|im_end|>\n"
    assert ours.encode(chat, allow_special=True) == theirs.encode(chat, add_special_tokens=False)
