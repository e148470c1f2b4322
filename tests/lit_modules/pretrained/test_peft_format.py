"""Adapters in PEFT's format: of each family, in both directions, and what can't be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import PreTrainedModel

from lit_modules.configs.adapter import LoRAConfig
from lit_modules.layers.lora import LoRALinear, apply_lora, lora_state_dict
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.transformer_lm import TransformerLM
from lit_modules.pretrained.peft_format import add_adapter, read_adapter, write_adapter
from lit_modules.pretrained.readers import build_network, read_pretrained

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is dep:FutureWarning"),  # PEFT reads it
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True but"),  # GPT-2's head is a Linear
]
Make = Callable[..., PreTrainedModel]
TOKENS = torch.arange(12)[None]
KIN: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": 4},
    "Qwen2": {},
    "Qwen3": {"rms_norm_eps": 1e-6},
    "SmolLM3": {"no_rope_layer_interval": 2, "pad_token_id": 0},
}


@pytest.fixture(params=[*KIN, "GGUF", "GPT2"])
def theirs(
    request: pytest.FixtureRequest,
    make_llama: Make,
    make_gpt2: Make,
    write_gguf: Callable[..., None],
    tmp_path: Path,
) -> PreTrainedModel:
    """A model of the library, which is stored in `base`. GGUF has the rows of queries and keys in pairs."""
    torch.manual_seed(0)
    if request.param == "GPT2":
        model = make_gpt2(tie_word_embeddings=False)
    else:
        family = "Llama" if request.param == "GGUF" else request.param
        model = make_llama(family, tie_word_embeddings=False, **KIN[family])
    if request.param == "GGUF":
        write_gguf(model, tmp_path / "base")
    else:
        model.save_pretrained(tmp_path / "base")
    return model


def network(tmp_path: Path) -> TransformerLM:
    return build_network(read_pretrained(tmp_path / "base"))


def opened(tmp_path: Path, adapter: str = "adapter") -> TransformerLM:
    """The base with an adapter."""
    ours = network(tmp_path)
    add_adapter(ours, read_adapter(tmp_path / adapter))
    return ours


def trained(tmp_path: Path, config: LoRAConfig, targets: list[str]) -> TransformerLM:
    """The base with updates that have random B, and their adapter in a file."""
    ours = network(tmp_path)
    apply_lora(ours, targets, rank=config.rank, alpha=config.alpha, rank_stabilized=config.rank_stabilized)
    for name, parameter in ours.named_parameters():
        if name.endswith("lora_b"):
            nn.init.normal_(parameter, std=0.1)
    write_adapter(tmp_path / "adapter", ours, config, base="base", huggingface=True)
    return ours


@torch.inference_mode()
def logits(model: Any) -> Tensor:
    result = model(TOKENS)
    return getattr(result, "logits", result)


def assert_same(found: Any, expected: Any, *, unlike: Any) -> None:
    """Two models have equal logits, which differ from those of a third."""
    assert_close(logits(found), logits(expected), rtol=1e-5, atol=1e-5)
    assert (logits(unlike) - logits(expected)).abs().max() > 0.01


ALL = ["*.query", "*.key", "*.value", "*.output", "*.up", "*.down", "head"]


@pytest.mark.parametrize(
    ("targets", "rank_stabilized"),
    [(ALL, False), (["*.query", "*.value"], True), (["*.1.attention.key", "*.0.*.output"], False)],
    ids=["all", "query and value", "one layer each"],
)
def test_an_adapter_has_the_logits_that_peft_gives_it(
    theirs: PreTrainedModel, rank_stabilized: bool, targets: list[str], tmp_path: Path
) -> None:
    """It comes back as it was, also after PEFT has loaded and saved it."""
    config = LoRAConfig(rank=3, alpha=5.0, rank_stabilized=rank_stabilized, base_sha256="0" * 64)
    ours = trained(tmp_path, config, targets)
    adapter = read_adapter(tmp_path / "adapter")
    assert (adapter.base, adapter.base_sha256) == ("base", "0" * 64)
    peft = PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    assert_same(peft, ours, unlike=network(tmp_path))
    peft.save_pretrained(tmp_path / "again", save_embedding_layers=False)
    state = lora_state_dict(ours)
    for name in ("adapter", "again"):
        back = opened(tmp_path, name)
        found = lora_state_dict(back)
        assert found.keys() == state.keys()
        assert all(found[key].equal(tensor) for key, tensor in state.items())
        assert_same(back, ours, unlike=network(tmp_path))
    assert_same(peft.merge_and_unload(), ours, unlike=network(tmp_path))


@pytest.mark.parametrize("patterns", [False, True])
def test_an_adapter_of_peft_has_its_logits(theirs: PreTrainedModel, patterns: bool, tmp_path: Path) -> None:
    """As it is, laid out for fast generation, and merged. Patterns give some layers another rank or alpha."""
    is_gpt2 = theirs.config.model_type == "gpt2"
    names = ["c_attn", "c_fc", "c_proj"] if is_gpt2 else ["q_proj", "k_proj", "up_proj", "down_proj"]
    config = LoraConfig(
        r=4,
        lora_alpha=2,
        target_modules=[*names, "lm_head"],
        init_lora_weights=False,
        fan_in_fan_out=is_gpt2,
        rank_pattern={f"0.mlp.{names[-1]}": 40} if patterns else {},  # above the width
        alpha_pattern={names[0]: 1.5} if patterns else {},
        use_rslora=patterns,
    )
    peft = get_peft_model(theirs, config).eval()
    peft.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    ours, plain = opened(tmp_path), network(tmp_path)
    assert_same(ours, peft, unlike=plain)
    assert_same(DecodingLM(ours), peft, unlike=plain)
    for layer in ours.modules():
        if isinstance(layer, LoRALinear):
            layer.merge()
    assert_same(ours, peft, unlike=plain)


def written_by_peft(model: PreTrainedModel, config: LoraConfig, tmp_path: Path) -> Path:
    """An adapter as PEFT itself writes it."""
    model.save_pretrained(tmp_path / "base")
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, "use_dora = True isn't implemented"),
        ({"bias": "lora_only"}, "bias = 'lora_only' isn't implemented, only 'none'"),
        ({"lora_bias": True}, "lora_bias = True isn't implemented"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save = ['lm_head'] isn't implemented"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices = [1] isn't implemented"),
        ({"layer_replication": [[0, 2], [0, 2]]}, "layer_replication = [[0, 2], [0, 2]] isn't implemented"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa' isn't implemented, only True,"),
        (
            {"alpha_pattern": {".*q_proj": 3}},
            "alpha_pattern = {'.*q_proj': 3} isn't implemented, only numbers",
        ),
        (
            {"target_modules": ["embed_tokens"]},
            "embed_tokens.lora_embedding_A isn't part of a low-rank update",
        ),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Adapter 'default'")  # PEFT warns of the biases that it writes
def test_what_peft_can_and_ours_cannot(
    make_llama: Make, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    config = LoraConfig(**{"target_modules": ["q_proj"], **settings})
    folder = written_by_peft(make_llama(attention_bias=True), config, tmp_path)
    with pytest.raises(ValueError) as caught:
        read_adapter(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "adapted", "said"),
    [
        ("gpt2", "llama", r"has no linear layer model\.layers\.0\.self_attn\.q_proj"),
        ("llama", "gpt2", r"has no linear layer transformer\.h\.0\.attn\.c_attn"),
        ("gpt2", "wider", "query has 48 outputs and 48 inputs, the layer has 32 and 32"),
    ],
)
def test_an_adapter_of_another_model(
    make_llama: Make, make_gpt2: Make, base: str, adapted: str, said: str, tmp_path: Path
) -> None:
    """Neither the names nor the shapes of another model are taken for those of the base."""
    model = make_llama() if adapted == "llama" else make_gpt2(n_embd=48 if adapted == "wider" else 32)
    targets = ["q_proj"] if adapted == "llama" else ["c_attn"]
    config = LoraConfig(
        r=4,
        target_modules=targets,
        fan_in_fan_out=adapted != "llama",
        init_lora_weights=False,
    )
    written_by_peft(model, config, tmp_path)
    (make_gpt2() if base == "gpt2" else make_llama()).save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match=said) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)
