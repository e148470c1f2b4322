from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from lit_modules.pretrained.gguf import read_gguf

Write = Callable[..., None]


@pytest.fixture
def model(make_llama: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return make_llama(tie_word_embeddings=True)


def refusal(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        read_gguf(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("share", [0.0002, 0.001, 0.01, 0.05, 0.06, 0.1, 0.5, 0.999])
def test_a_truncated_file(model: PreTrainedModel, write_gguf: Write, share: float, tmp_path: Path):
    path = tmp_path / "tiny.gguf"
    write_gguf(model, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "is a truncated or invalid GGUF file: it has" in refusal(path)


def test_lengths_that_lead_far_beyond_the_end(tmp_path: Path):
    """An array of 2⁶⁰ entries is found out at its first missing one."""
    key = b"general.name"
    header = b"GGUF" + np.array([3], "<u4").tobytes() + np.array([0, 1], "<u8").tobytes()
    entry = np.array([len(key)], "<u8").tobytes() + key + np.array([9, 4], "<u4").tobytes()
    path = tmp_path / "tiny.gguf"
    path.write_bytes(header + entry + np.array([2**60], "<u8").tobytes() + bytes(64))
    assert "is a truncated or invalid GGUF file" in refusal(path)


def test_a_damaged_string(model: PreTrainedModel, write_gguf: Write, tmp_path: Path):
    path = tmp_path / "tiny.gguf"
    write_gguf(model, path)
    path.write_bytes(path.read_bytes().replace(b"token 3", b"token \xff"))
    assert "is a truncated or invalid GGUF file: 'utf-8' codec can't decode byte 0xff" in refusal(path)


def test_a_big_endian_file_is_refused(tmp_path: Path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "is a big-endian GGUF file; convert it with gguf-convert-endian" in refusal(tmp_path / "x.gguf")


def test_texts_end_at_each_end_token(model: PreTrainedModel, write_gguf: Write, tmp_path: Path):
    extra = {"tokenizer.ggml.eot_token_id": 9, "tokenizer.ggml.eom_token_id": 3}
    write_gguf(model, tmp_path / "tiny.gguf", extra=extra)
    assert read_gguf(tmp_path / "tiny.gguf").end_ids == (3, 7, 9)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and more", b"GG"])
def test_a_foreign_file(content: bytes, tmp_path: Path):
    (tmp_path / "x.gguf").write_bytes(content)
    assert "isn't a GGUF file: it starts with" in refusal(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {"llama.rope.scaling.type": "linear"},
            "rope.scaling.type = 'linear' isn't implemented, only 'none'",
        ),
        ({"llama.expert_count": 8}, "expert_count = 8 isn't implemented"),
        ({"llama.rope.dimension_count": 4}, "rope.dimension_count = 4 isn't implemented, only 8"),
        ({"llama.attention.value_length": 16}, "attention.value_length = 16 isn't implemented, only 8"),
    ],
    ids=str,
)
def test_what_is_not_implemented_is_refused_by_name(
    model: PreTrainedModel, write_gguf: Write, extra: dict[str, Any], message: str, tmp_path: Path
):
    write_gguf(model, tmp_path / "tiny.gguf", extra=extra)
    assert message in refusal(tmp_path / "tiny.gguf")


def test_another_architecture(tmp_path: Path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "bert")
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    message = refusal(tmp_path / "x.gguf")
    assert "general.architecture = 'bert' isn't implemented, only 'llama'" in message


def test_a_tensor_that_nothing_reads(model: PreTrainedModel, write_gguf: Write, tmp_path: Path):
    model.model.layers[0].self_attn.q_proj.bias = torch.nn.Parameter(torch.ones(32))
    write_gguf(model, tmp_path / "tiny.gguf")
    assert "tensor blk.0.attn_q.bias isn't used by any supported layer" in refusal(tmp_path / "tiny.gguf")
