import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from lit_modules.pretrained.huggingface import read_folder
from lit_modules.pretrained.readers import build_network

Make = Callable[..., PreTrainedModel]


@pytest.fixture
def folder(make_llama: Make, tmp_path: Path) -> Path:
    make_llama().save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({key: value for key, value in values.items() if value != "absent"}))


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        read_folder(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("max_shard_size", ["20kB", "1GB"])
def test_shards_are_put_together(make_llama: Make, max_shard_size: str, tmp_path: Path):
    model = make_llama()
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (max_shard_size == "20kB")
    network = build_network(read_folder(tmp_path))
    tokens = torch.arange(9)[None]
    with torch.inference_mode():
        torch.testing.assert_close(network(tokens), model(tokens).logits, rtol=1e-4, atol=1e-4)


def test_settings_as_older_files_have_them(folder: Path):
    change(folder, rope_parameters="absent", rope_theta=321.0, rope_scaling=None, head_dim="absent")
    change(folder, torch_dtype="float32", eos_token_id=[4, 5], tie_word_embeddings="absent")
    (folder / "generation_config.json").unlink()
    model = read_folder(folder)
    assert (model.config.rotary_base, model.config.head_dim, model.end_ids) == (321.0, 8, (4, 5))


def test_gpt2_tensors_as_older_files_name_them(make_gpt2: Make, tmp_path: Path):
    make_gpt2().save_pretrained(tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "old")  # tensors read from a file may be views of it
    new = read_folder(tmp_path / "new").state_dict
    file = "model.safetensors"
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(tmp_path / "new" / file).items()}
    tensors |= {"h.0.attn.bias": torch.ones(1, 1, 24, 24), "lm_head.weight": tensors["wte.weight"].clone()}
    save_file(tensors, tmp_path / "old" / file)
    old = read_folder(tmp_path / "old").state_dict
    assert all(old[name].equal(tensor) for name, tensor in new.items())


PUBLISHED = {
    "n_ctx": 24,
    "n_special": 0,
    "predict_special_tokens": True,
    "_num_labels": 1,
    "torchscript": False,
}
PUBLISHED |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "output_past": True}
PUBLISHED |= {
    "gradient_checkpointing": False,
    "task_specific_params": {"text-generation": {"max_length": 50}},
}
PUBLISHED |= {"do_sample": False, "temperature": 1.0, "pruned_heads": {}, "is_encoder_decoder": False}


def test_gpt2_settings_as_published_files_have_them(make_gpt2: Make, tmp_path: Path):
    model = make_gpt2()
    model.save_pretrained(tmp_path)
    change(tmp_path, **PUBLISHED)
    network, tokens = build_network(read_folder(tmp_path)), torch.arange(9)[None]
    with torch.inference_mode():
        torch.testing.assert_close(network(tokens), model(tokens).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "ends"),
    [({"eos_token_id": [5, 9]}, (4, 5, 9)), ({"eos_token_id": 5}, (4, 5)), ({"eos_token_id": None}, (4,))],
    ids=str,
)
def test_texts_end_at_the_tokens_of_both_configs(
    folder: Path, content: dict[str, Any], ends: tuple[int, ...]
):
    change(folder, eos_token_id=4)
    (folder / "generation_config.json").write_text(json.dumps(content), encoding="utf-8-sig")
    assert read_folder(folder).end_ids == ends
    (folder / "generation_config.json").write_text("[]")
    assert "generation_config.json contains a list" in refusal(folder)


def test_a_byte_order_mark_is_dropped(folder: Path):
    expected = read_folder(folder).config
    (folder / "config.json").write_text((folder / "config.json").read_text(), encoding="utf-8-sig")
    assert read_folder(folder).config == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rope_scaling: rope_type = 'longrope'"),
        ({"rope_scaling": {"type": "dynamic"}}, "rope_scaling: type = 'dynamic' isn't implemented"),
        (
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
            "rope_parameters: low_freq_factor is missing",
        ),
        ({"rope_parameters": {"rope_type": "default", "factor": 8.0}}, "rope_parameters: factor = 8.0 isn't"),
        ({"rope_parameters": "no"}, "rope_parameters is 'no', expected a mapping or null"),
        ({"attention_bias": True}, "tensor model.layers.0.self_attn.q_proj.bias is missing"),
        ({"mlp_bias": 1}, "mlp_bias is 1, expected true or false"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": 1.0}},
            "low_turns: 1.0 must be less than high_turns",
        ),
        (
            {"layer_types": ["full_attention", "sliding_attention"]},
            "layer_types = ['full_attention', 'sliding_attention'] isn't implemented",
        ),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window = True isn't implemented"),
        ({"model_type": "qwen3", "rms_norm_eps": 1e-5}, "rms_norm_eps = 1e-05 isn't implemented for qwen3"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0, expected an integer"),
        (
            {"model_type": "smollm3", "no_rope_layers": [0, 1]},
            "no_rope_layers = [0, 1] isn't implemented, only every n-th layer",
        ),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' isn't implemented, only 'silu', 'swish'"),
        ({"sliding_window": 4096}, "sliding_window = 4096 isn't implemented"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder = True isn't implemented, only False"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads = {'0': [1]} isn't implemented, only {}"),
        ({"quantization_config": {"bits": 4}}, "quantization_config = {'bits': 4} isn't implemented"),
        (
            {"model_type": "mamba"},
            "model_type = 'mamba' isn't implemented, only 'gpt2', 'llama', 'mistral', 'qwen2',",
        ),
        ({"model_type": "absent"}, "model_type is missing"),
        ({"hidden_size": "absent"}, "hidden_size is missing"),
        ({"hidden_size": "32"}, "hidden_size is '32', expected an integer of at least 1"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True, expected an integer"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0, expected a number above 0"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1, expected true or false"),
        ({"num_key_value_heads": 3}, "config.json: num_kv_heads: 3 doesn't divide num_heads 4"),
        ({"vocab_size": 41}, r"model.embed_tokens.weight has shape (40, 32), expected (41, 32)"),
        ({"num_hidden_layers": 3}, "tensor model.layers.2.input_layernorm.weight is missing"),
        ({"num_hidden_layers": 1}, "(and 8 more) isn't used by any supported layer"),
        ({"tie_word_embeddings": True}, "lm_head.weight differs from the embedding, although they are tied"),
    ],
    ids=str,
)
def test_what_is_not_implemented_is_refused_by_name(folder: Path, settings: dict[str, Any], message: str):
    change(folder, **settings)
    assert message in refusal(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx = True isn't implemented",
        ),
        ({"scale_attn_weights": False}, "scale_attn_weights = False isn't implemented"),
        ({"add_cross_attention": True}, "add_cross_attention = True isn't implemented"),
        ({"activation_function": "tanh"}, "activation_function = 'tanh' isn't implemented"),
    ],
    ids=str,
)
def test_what_gpt2_can_and_ours_cannot(
    make_gpt2: Make, settings: dict[str, Any], message: str, tmp_path: Path
):
    make_gpt2().save_pretrained(tmp_path)
    change(tmp_path, **settings)
    assert message in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_a_truncated_file(folder: Path, share: float):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "model.safetensors is a truncated or invalid safetensors file" in refusal(folder)


def test_files_of_another_kind(folder: Path):
    (folder / "model.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "is a truncated or invalid safetensors file" in refusal(folder)
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors and no model.safetensors.index.json" in refusal(folder)
    for content, message in (
        ("{", "isn't JSON"),
        ("[]", "contains a list, expected a mapping"),
        ("", "isn't JSON"),
    ):
        (folder / "config.json").write_text(content)
        assert message in refusal(folder)
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    assert "isn't JSON" in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json can't be read: No such file or directory" in refusal(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "weight_map is missing"),
        ({"weight_map": {"a": 3}}, "weight_map is missing or isn't a mapping"),
        ({"weight_map": {"a": "../model.safetensors"}}, "expected a .safetensors file in the same folder"),
        ({"weight_map": {"a": "model.bin"}}, "expected a .safetensors file in the same folder"),
        ({"weight_map": {"a": "gone.safetensors"}}, "gone.safetensors can't be read: No such file"),
        ({"weight_map": {"a": "part.safetensors"}}, "lists tensor a, but part.safetensors"),
    ],
    ids=str,
)
def test_an_index_that_leads_nowhere(folder: Path, index: dict[str, Any], message: str):
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert message in refusal(folder)
