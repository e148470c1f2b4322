from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from datamodules.assets.fetch import fetch
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.pretrained.readers import build_network, read_pretrained

Make = Callable[..., PreTrainedModel]
Widen = Callable[[PreTrainedModel], PreTrainedModel]


def assert_same_logits(network: TransformerLM, model: PreTrainedModel, *, tolerance: float = 1e-10) -> None:
    tokens = torch.randint(40, (2, 17), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(tokens).logits
        assert expected.std() > 0.1
        torch.testing.assert_close(network(tokens), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "settings",
    [
        {"tie_word_embeddings": True},
        {"tie_word_embeddings": False},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1, "head_dim": 6},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}, "rms_norm_eps": 1e-2},
    ],
    ids=str,
)
def test_a_llama_gives_the_same_logits(
    make_llama: Make, in_full_float64: Widen, settings: dict[str, Any], tmp_path: Path
):
    model = make_llama(**settings)
    model.save_pretrained(tmp_path)
    pretrained = read_pretrained(tmp_path)
    network = build_network(pretrained, dtype=torch.float64)
    assert (pretrained.vocab_size, pretrained.context_length, pretrained.end_ids) == (40, 48, (2,))
    assert (network.head.weight is network.embedding.weight) == model.config.tie_word_embeddings
    assert_same_logits(network, model.double(), tolerance=1e-6)
    assert_same_logits(network, in_full_float64(model))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tie_word_embeddings": False},
        {"n_inner": 40, "activation_function": "relu", "layer_norm_epsilon": 1e-2},
        {"activation_function": "gelu"},
    ],
    ids=str,
)
def test_a_gpt2_gives_the_same_logits(make_gpt2: Make, settings: dict[str, Any], tmp_path: Path):
    model = make_gpt2(**settings)
    model.save_pretrained(tmp_path)
    pretrained = read_pretrained(tmp_path)
    assert (pretrained.vocab_size, pretrained.context_length, pretrained.end_ids) == (40, 24, (3,))
    assert_same_logits(build_network(pretrained, dtype=torch.float64), model.double())


@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_gives_the_logits_of_its_source(
    make_llama: Make, in_full_float64: Widen, write_gguf: Callable[..., None], tied: bool, tmp_path: Path
):
    model = make_llama(tie_word_embeddings=tied)
    write_gguf(model, tmp_path / "tiny.gguf")
    pretrained = read_pretrained(tmp_path / "tiny.gguf")
    network = build_network(pretrained, dtype=torch.float64)
    assert network.trunk.rotary.layout == "adjacent_pairs"
    assert (network.head.weight is network.embedding.weight) == tied
    assert (pretrained.vocab_size, pretrained.context_length, pretrained.end_ids) == (40, 48, (7,))
    assert pretrained.tokenizer["ggml.tokens"][3] == "token 3"
    assert_same_logits(network, in_full_float64(model))


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_1", "Q4_0", "BF16"])
def test_a_quantised_gguf_gives_the_logits_that_the_library_gets_from_it(
    make_llama: Make,
    in_full_float64: Widen,
    library_reads_gguf: Callable[[Path], PreTrainedModel],
    write_gguf: Callable[..., None],
    kind: str,
    tmp_path: Path,
):
    source = make_llama(tie_word_embeddings=False)
    write_gguf(source, tmp_path / "tiny.gguf", kind=kind)
    network = build_network(read_pretrained(tmp_path / "tiny.gguf"), dtype=torch.float64)
    assert_same_logits(network, in_full_float64(library_reads_gguf(tmp_path / "tiny.gguf")))
    with pytest.raises(AssertionError, match="not close"):
        assert_same_logits(network, in_full_float64(source), tolerance=1e-6)


def test_the_network_has_the_asked_precision_and_takes_gradients(make_llama: Make, tmp_path: Path):
    make_llama(tie_word_embeddings=True).save_pretrained(tmp_path)
    network = build_network(read_pretrained(tmp_path), dtype=torch.bfloat16)
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert not network.training
    network(torch.tensor([[1, 2]])).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_neither_file_nor_folder(tmp_path: Path):
    with pytest.raises(ValueError, match="nowhere doesn't exist; expected a GGUF file or a folder"):
        read_pretrained(tmp_path / "nowhere")


@pytest.mark.network
@pytest.mark.slow
def test_smollm2_gives_the_librarys_logits(library_reads_gguf: Callable[[Path], PreTrainedModel]):
    """The real file: 30 layers in 4 bits, against the library's own reading of it, in fp32."""
    path = fetch("smollm2", Path(__file__).parents[3] / "data") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    pretrained = read_pretrained(path)
    assert (pretrained.vocab_size, pretrained.context_length, pretrained.end_ids) == (49152, 8192, (2,))
    assert (pretrained.config.depth, pretrained.config.width, pretrained.config.tie_embeddings) == (
        30,
        576,
        True,
    )
    network = build_network(pretrained)
    # "The capital of France is Paris, and that of Germany is"
    ids = [504, 3575, 282, 4649, 314, 7042, 28, 284, 338, 282, 4521, 314]
    with torch.inference_mode():
        expected = library_reads_gguf(path)(torch.tensor([ids])).logits
        for ours in (network, DecodingLM(network)):
            logits = ours(torch.tensor([ids]))
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)
    assert int(expected[0, -1].argmax()) == 11452  # Berlin
