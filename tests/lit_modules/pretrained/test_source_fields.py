"""Settings of published config.json files at tiny sizes: those that change no logit are ignored."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch.testing import assert_close

from lit_modules.pretrained.huggingface import read_folder
from lit_modules.pretrained.readers import build_network

SIZES = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
ROTARY = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.54.0",
    "use_cache": True,
    **SIZES,
}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "pretraining_tp": 1, **ROTARY}
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", **ROTARY}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **ROTARY}
QWEN2 |= {"max_window_layers": 4, "sliding_window": 8, "use_sliding_window": False}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **ROTARY, "head_dim": 16}
QWEN3 |= {
    "attention_bias": False,
    "max_window_layers": 4,
    "sliding_window": None,
    "use_sliding_window": False,
}
SMOLLM3 = {
    "architectures": ["SmolLM3ForCausalLM"],
    "model_type": "smollm3",
    **ROTARY,
    "attention_bias": False,
    "layer_types": ["full_attention"] * 4,
    "max_window_layers": 28,
    "mlp_bias": False,
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0],
    "pad_token_id": 4,
    "pretraining_tp": 2,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_cache": False,
    "use_sliding_window": False,
}
GPT2 = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 3,
    "embd_pdrop": 0.1,
    "eos_token_id": 3,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 64,
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 64,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 40,
}
LLAMA3 = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0}
LLAMA3 |= {"original_max_position_embeddings": 32, "rope_type": "llama3"}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16, "type": "yarn"}
CODE = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
UNSLOTH = {"pad_token_id": 4, "unsloth_fixed": True, "unsloth_version": "2025.3.8"}
WHOLE_VERSION_4 = {  # what `transformers` 4 writes if it is asked for every setting
    "add_cross_attention": False,
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "diversity_penalty": 0.0,
    "do_sample": True,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "finetuning_task": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "is_decoder": False,
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "length_penalty": 1.0,
    "max_length": 4096,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_scores": False,
    "pruned_heads": {},
    "remove_invalid_values": False,
    "repetition_penalty": 1.0,
    "return_dict": True,
    "return_dict_in_generate": False,
    "temperature": 0.6,
    "tf_legacy_loss": False,
    "tie_encoder_decoder": False,
    "top_k": 50,
    "top_p": 0.9,
    "torchscript": False,
    "typical_p": 1.0,
    "use_bfloat16": False,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "Llama": LLAMA | {"max_sequence_length": 2048, "pad_token_id": 0},
    "Llama 2": LLAMA | {"_name_or_path": "meta-llama/Llama-2-7b-hf", **WHOLE_VERSION_4},
    "Llama 2 with yarn": LLAMA | {"auto_map": CODE, "rope_scaling": {**YARN, "finetuned": True}},
    "Llama 3.1": LLAMA | {"attention_bias": False, "mlp_bias": False, "rope_scaling": LLAMA3},
    "Llama 3.2": LLAMA | {"eos_token_id": [2, 3], "head_dim": 8, "tie_word_embeddings": True} | UNSLOTH,
    "CodeLlama": LLAMA
    | {"pretraining_tp": 2, "rope_theta": 1000000, "eos_token": "</s>", "pad_token": "<pad>"},
    "SmolLM2": LLAMA
    | {"is_llama_config": True, "rope_interleaved": False, "tie_word_embeddings": True, "pad_token_id": 2}
    | {"transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "bos_token": "<|im_start|>"},
    "Llama of transformers 5": LLAMA
    | {"dtype": "bfloat16", "partial_rotary_factor": 1.0, "_attn_implementation_autoset": True}
    | {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 1.0}},
    "Mistral 0.1": MISTRAL | {"sliding_window": 4},
    "Mistral 0.3": MISTRAL | {"sliding_window": None, "attn_implementation": "sdpa", "head_dim": 16},
    "Mistral with layer types": MISTRAL | {"sliding_window": None, "layer_types": ["full_attention"] * 4},
    "Mistral with windows": MISTRAL | {"sliding_window": 4, "layer_types": ["sliding_attention"] * 4},
    "Qwen2": QWEN2 | {"use_mrope": False, "attention_bias": False, "_attn_implementation": "eager"},
    "Qwen2.5 with yarn": QWEN2 | {"rope_scaling": YARN, "tie_word_embeddings": True, **UNSLOTH},
    "Qwen2.5 of transformers 5": QWEN2 | {"layer_types": ["full_attention"] * 4, "sliding_window": None},
    "Qwen3": QWEN3,
    "Qwen3 with yarn": QWEN3 | {"rope_scaling": {**YARN, "rope_type": "yarn"}, "tie_word_embeddings": True},
    "SmolLM3": SMOLLM3,
    "GPT-2": GPT2,
    "GPT-2 XL": GPT2 | {"n_special": 0, "output_past": True, "predict_special_tokens": True},
    "DistilGPT-2": GPT2 | {"_num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}},
    "GPT-2 of transformers 4": GPT2
    | {"gradient_checkpointing": False, "n_inner": None, "reorder_and_upcast_attn": False}
    | {"scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True, **WHOLE_VERSION_4},
}
FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3", "GPT2")


def write(folder: Path, settings: dict[str, Any]) -> transformers.PreTrainedModel:
    """Write a random model with exactly these settings in its config.json."""
    torch.manual_seed(0)
    architecture = getattr(transformers, settings["architectures"][0])
    model = architecture(architecture.config_class(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings))
    return model


@pytest.mark.parametrize("settings", PUBLISHED.values(), ids=PUBLISHED)
def test_a_published_config_gives_the_librarys_logits(settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = write(tmp_path, settings)
    (tmp_path / "code.py").write_text("raise SystemExit('code beside the weights was run')")
    ours, tokens = build_network(read_folder(tmp_path)), torch.arange(5, 25)[None]
    with torch.inference_mode():
        assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_that_the_library_writes_opens(family: str, tmp_path: Path) -> None:
    """The defaults of the family's class, and the settings of generation, which older files have too."""
    sizes = {key: GPT2[key] for key in ("vocab_size", "n_embd", "n_head", "n_layer")}
    sizes = (sizes if family == "GPT2" else SIZES) | {"pad_token_id": 0}
    config = getattr(transformers, f"{family}Config")(**sizes)
    generation = transformers.GenerationConfig().to_dict()
    settings = {key: 1 if value is None else value for key, value in generation.items()} | config.to_dict()
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    write(tmp_path, config.to_dict() | {"architectures": [f"{family}{head}"]})
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert read_folder(tmp_path).vocab_size == 40


CHANGING: list[tuple[str, dict[str, Any], str]] = [
    ("Qwen2", {"use_mrope": True}, "use_mrope = True isn't implemented, only False"),
    ("Qwen2", {"use_sliding_window": True}, "use_sliding_window = True isn't implemented, only False"),
    ("Qwen2", {"dual_chunk_attention_config": {"chunk_size": 8}}, "dual_chunk_attention_config = {'chunk"),
    ("Qwen2", {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}, "type = 'mrope' isn't impl"),
    ("Qwen2", {"rope_scaling": {**YARN, "attn_factor": 2.0}}, "rope_scaling: attn_factor = 2.0 isn't impl"),
    ("Llama", {"use_sliding_window": True}, "use_sliding_window = True isn't implemented, only False"),
    ("Llama", {"rope_interleaved": True}, "rope_interleaved = True isn't implemented, only False"),
    ("Llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5 isn't implemented, only 1.0"),
    ("Llama", {"quantization_config": {"bits": 4}}, "quantization_config = {'bits': 4} isn't implemented"),
    ("Llama", {"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0 isn't implemented"),
    ("Llama", {"logit_scale": 0.5}, "logit_scale = 0.5 isn't implemented"),
    ("Llama", {"num_local_experts": 8}, "num_local_experts = 8 isn't implemented"),
    ("Llama", {"add_cross_attention": True}, "add_cross_attention = True isn't implemented, only False"),
    ("Llama", {"layer_types": 4}, "layer_types = 4 isn't implemented, only 'full_attention'"),
    ("Mistral 0.1", {"layer_types": ["full_attention"] * 4}, "isn't implemented, only 'sliding_attention'"),
    ("Mistral 0.3", {"layer_types": ["sliding_attention"] * 4}, "isn't implemented, only 'full_attention'"),
    ("SmolLM3", {"no_rope_layers": 4}, "no_rope_layers = 4 isn't implemented, only every n-th layer"),
    ("GPT-2", {"use_mrope": False}, "use_mrope = False isn't implemented"),
    ("GPT-2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True isn't impl"),
]


@pytest.mark.parametrize(("name", "changes", "message"), CHANGING)
def test_a_setting_that_may_change_the_logits_is_refused_by_name(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path, PUBLISHED[name])
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name] | changes))
    with pytest.raises(ValueError) as caught:
        read_folder(tmp_path)
    assert message in str(caught.value)
