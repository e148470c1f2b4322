"""LoRA by config: what is trained, saved, resumed and loaded elsewhere, beside weights that stay frozen."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

import experiments
from experiments.config.check import load_config
from experiments.errors import UserError
from experiments.evaluate.on_data import evaluate
from experiments.language_models.opening import open_language_model
from experiments.sample.__main__ import main as sample_main
from experiments.training import checkpoint
from lit_modules.layers.lora import LoRALinear

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is dep:FutureWarning"
)  # PEFT reads it
LORA = {"adapter": {"name": "lora", "rank": 2, "alpha": 6.0, "dropout": 0.1}}
ADAMW = {"optimizer": {"name": "adamw", "lr": 0.02}}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, write_llama: Callable[..., Path]) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def tuned(language_settings: dict[str, Any], llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that has adapted that model."""
    run_dir = tmp_path_factory.mktemp("runs") / "tuned"
    targets = {"adapter.targets": ["query", "key", "output", "down"]}
    return experiments.run(
        language_settings, LORA, ADAMW, targets, {"model.init_from": str(llama)}, f"run_dir={run_dir}"
    ).run_dir


TOKENS = torch.arange(90, 106)[None]


def test_only_the_updates_are_trained_and_saved(tuned: Path, llama: Path) -> None:
    state = checkpoint.load(tuned / "checkpoints" / "best.ckpt")["state_dict"]
    assert len(state) == 2 * 4 * 2
    assert all(name.endswith((".lora_a", ".lora_b")) for name in state)
    metrics = json.loads((tuned / "metrics.json").read_text())
    assert metrics["trained_parameters"] == sum(tensor.numel() for tensor in state.values())
    assert (tuned / "checkpoints/best.ckpt").stat().st_size < (llama / "model.safetensors").stat().st_size
    start = open_language_model(str(llama), laid_out=False)
    end = open_language_model(str(tuned), laid_out=False)
    for name, layer in end.network.named_modules():
        if isinstance(layer, LoRALinear):
            assert torch.equal(layer.base.weight, start.network.get_submodule(name).weight)
            assert layer.lora_b.abs().max() > 0
            assert layer.dropout.p == 0.1


def test_a_run_learns_resumes_and_is_evaluated(
    language_settings: dict[str, Any], llama: Path, work: Path
) -> None:
    """Resumed after an epoch it is, to the bit, the run that was not stopped."""
    sources = language_settings, LORA, ADAMW, {"model.init_from": str(llama)}
    whole = experiments.run(*sources, "run_dir=whole", "trainer.max_epochs=2")
    experiments.run(*sources, "run_dir=cut", "trainer.max_epochs=1", {"schedule": {"name": "constant"}})
    again = experiments.run(
        *sources, "run_dir=cut", "resume=auto", "trainer.max_epochs=2", {"schedule": {"name": "constant"}}
    )
    straight = experiments.run(*sources, {"schedule": {"name": "constant"}}, "run_dir=straight")
    assert again.metrics["test/loss"] == straight.metrics["test/loss"]
    assert evaluate("whole")["test/loss"] == pytest.approx(whole.metrics["test/loss"])
    untrained = experiments.run(*sources, "run_dir=none", {"optimizer": {"name": "sgd", "lr": 1e-30}})
    assert whole.metrics["test/loss"] < untrained.metrics["test/loss"] - 0.02


def test_the_adapter_loads_in_peft_with_equal_logits(tuned: Path, llama: Path) -> None:
    ours = open_language_model(str(tuned), laid_out=False)
    theirs = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(llama), tuned / "adapter").eval()
    with torch.inference_mode():
        expected = theirs(TOKENS).logits[..., :259]
        torch.testing.assert_close(ours.network(TOKENS), expected, rtol=1e-4, atol=1e-5)
        apart = LlamaForCausalLM.from_pretrained(llama)(TOKENS).logits[..., :259]
        assert (expected - apart).abs().max() > 1e-3


def test_an_adapter_of_gpt2_loads_in_peft_and_comes_back(
    language_settings: dict[str, Any], llama: Path, work: Path
) -> None:
    """Its query, key and value are one layer in PEFT."""
    shutil.copytree(llama, "gpt2")  # for its vocabulary
    config = GPT2Config(vocab_size=260, n_positions=64, n_embd=32, n_layer=2, n_head=4, eos_token_id=258)
    GPT2LMHeadModel(config).save_pretrained("gpt2")
    targets = {"adapter.targets": ["query", "value", "output", "up"]}
    run = experiments.run(language_settings, LORA, ADAMW, targets, {"model.init_from": "gpt2"})
    ours = open_language_model(str(run.run_dir), laid_out=False)
    back = open_language_model(str(run.run_dir / "adapter"))
    plain = GPT2LMHeadModel.from_pretrained("gpt2")
    with torch.inference_mode():
        expected, apart = ours.network(TOKENS), plain(TOKENS).logits[..., :259]
        theirs = PeftModel.from_pretrained(plain, run.run_dir / "adapter").eval()
        torch.testing.assert_close(theirs(TOKENS).logits[..., :259], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(back.network(TOKENS)[..., :259], expected, rtol=1e-4, atol=1e-5)
        assert (expected - apart).abs().max() > 1e-3


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_of_peft_loads_here_with_equal_logits(
    llama: Path, work: Path, rslora: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = ["q_proj", "k_proj", "gate_proj", "lm_head"]
    config = LoraConfig(r=4, lora_alpha=9, use_rslora=rslora, target_modules=targets, init_lora_weights=False)
    theirs = get_peft_model(LlamaForCausalLM.from_pretrained(llama), config).eval()
    theirs.save_pretrained("adapter", save_embedding_layers=False)
    ours = open_language_model("adapter", laid_out=False)
    fast = open_language_model("adapter")
    with torch.inference_mode():
        expected = theirs(TOKENS).logits
        torch.testing.assert_close(ours.network(TOKENS), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fast.network(TOKENS), expected, rtol=1e-4, atol=1e-5)
    assert sample_main(["adapter", "--prompt", "The cat", "--max-new-tokens", "2"]) == 0
    capsys.readouterr()


def test_an_adapter_of_our_own_model_comes_back_and_loads_in_peft(
    language_settings: dict[str, Any], language_run: Path, work: Path
) -> None:
    base = language_run / "checkpoints" / "best.ckpt"
    run = experiments.run(
        language_settings, LORA, ADAMW, {"model.init_from": str(base)}, {"adapter.targets": ["value", "up"]}
    )
    ours = open_language_model(str(run.run_dir), laid_out=False)
    back = open_language_model(str(run.run_dir / "adapter"), laid_out=False)
    tokens = torch.arange(12)[None]
    plain = open_language_model(str(base), laid_out=False).network
    with torch.inference_mode():
        expected = ours.network(tokens)
        torch.testing.assert_close(back.network(tokens), expected)
        assert (plain(tokens) - expected).abs().max() > 1e-4
        theirs = PeftModel.from_pretrained(plain, run.run_dir / "adapter").eval()
        torch.testing.assert_close(theirs(tokens), expected, rtol=1e-4, atol=1e-5)


def test_merged_and_unmerged_give_the_same(tuned: Path) -> None:
    network = open_language_model(str(tuned), laid_out=False).network
    layers = [layer for layer in network.modules() if isinstance(layer, LoRALinear)]
    with torch.inference_mode():
        separate = network(TOKENS)
        for layer in layers:
            layer.merge()
        torch.testing.assert_close(network(TOKENS), separate, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            open_language_model(str(tuned)).network(TOKENS), separate, rtol=1e-4, atol=1e-5
        )


def test_another_base_is_refused(
    tuned: Path, llama: Path, write_llama: Callable[..., Path], work: Path
) -> None:
    """Its layers fit, but its weights are others: for the run, for its adapter, and for a resumed run."""
    other = write_llama(Path("other"))
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    shutil.copytree(tuned, "tuned")
    settings = json.loads(Path("tuned/adapter/adapter_config.json").read_text())
    Path("tuned/adapter/adapter_config.json").write_text(
        json.dumps(settings | {"base_model_name_or_path": "other"})
    )
    said = "isn't the model that the adapter was trained on: its sha256 is"
    with pytest.raises(UserError, match=said):
        open_language_model("tuned/adapter")
    config = load_config("tuned/config.yaml").plain
    with pytest.raises(UserError, match=said):
        experiments.run(
            config, "model.init_from=other", "run_dir=tuned", "resume=auto", "trainer.max_epochs=3"
        )


def test_a_chain_with_an_adapter_works_after_it_was_moved(
    language_settings: dict[str, Any], work: Path
) -> None:
    stages = {"base": {"adapter": None}, "tune": {"model.init_from": "base", **LORA, **ADAMW}}
    experiments.run({**language_settings, "stages": stages}, "run_dir=chain", "trainer.max_epochs=1")
    before = evaluate("chain/tune")["test/loss"]
    shutil.move("chain", "elsewhere")
    assert evaluate("elsewhere/tune")["test/loss"] == before


TRANSFORMERS: dict[str, dict[str, Any]] = {
    "vision_transformer": {
        "model": {"name": "vision_transformer", "depth": 1, "width": 16, "num_heads": 2, "patch_size": 2},
        "data": {"name": "digits", "batch_size": 250},
    },
    "seq2seq": {
        "model": {"name": "seq2seq", "depth": 1, "width": 16, "num_heads": 2},
        "data": {
            "name": "digit_sequences",
            "max_length": 4,
            "train_size": 100,
            "val_size": 20,
            "test_size": 20,
        },
    },
    "text_classifier": {
        "model": {"name": "text_classifier", "depth": 1, "width": 8, "num_heads": 1},
        "data": {
            "name": "play_passages",
            "passage_words": 1000,
            "root": str(Path(__file__).parents[3] / "data"),
            "tokenizer": {"kind": "byte"},
        },
    },
}


@pytest.mark.parametrize(
    "name",
    [
        "vision_transformer",
        "seq2seq",
        pytest.param("text_classifier", marks=(pytest.mark.network, pytest.mark.slow)),
    ],
)
def test_every_transformer_takes_an_adapter(name: str, tiny: dict[str, Any]) -> None:
    """An encoder of images, an encoder–decoder, and an encoder of texts."""
    few = {f"trainer.limit_{part}_batches": 2 for part in ("train", "val", "test")}
    settings = {"trainer": {**tiny["trainer"], "max_epochs": 1}, **TRANSFORMERS[name]}
    experiments.run(settings, few, "run_dir=base")
    run = experiments.run(settings, few, LORA, ADAMW, "model.init_from=base", "run_dir=tuned")
    assert 0 < run.metrics["trained_parameters"] < run.metrics["parameters"] / 2
    assert evaluate("tuned")["test/loss"] == pytest.approx(run.metrics["test/loss"])
    assert len(load_file("tuned/adapter/adapter_model.safetensors")) % 4 == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model.init_from": None}, "name the weights that stay frozen with model.init_from"),
        ({"adapter.targets": ["querry"]}, r"no linear layer matches '\*\.querry'"),
        ({"adapter.targets": []}, "name at least one linear layer"),
        ({"model.init_from": "tuned"}, "holds only an adapter of .*; name that model"),
        ({"adapter.rnk": 3}, r"adapter\.rnk.*did you mean"),
        ({"adapter.base_sha256": "0" * 64}, "its sha256 is .*expected 000000000000"),
    ],
)
def test_what_cannot_be_adapted_is_refused(
    language_settings: dict[str, Any],
    llama: Path,
    tuned: Path,
    work: Path,
    settings: dict[str, Any],
    said: str,
) -> None:
    Path("tuned").symlink_to(tuned)
    with pytest.raises(UserError, match=said):
        experiments.run(language_settings, LORA, {"model.init_from": str(llama)}, settings)
    assert not any(Path("runs").rglob("config.yaml"))


def test_only_transformers_take_an_adapter(tiny: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="mlp is not a transformer; remove this section"):
        load_config(tiny, LORA, "model.init_from=x.ckpt")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type = 'IA3' isn't implemented, only 'LORA'"),
        ({"use_dora": True}, "use_dora = True isn't implemented"),
        ({"bias": "all"}, "bias = 'all' isn't implemented, only 'none'"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save = \['lm_head'\] isn't implemented"),
        ({"rank_pattern": {"q_proj": 3}}, "has no pair of matrices of rank 3"),
        (
            {"rank_pattern": {"q.*": 3}},
            r"rank_pattern = .* isn't implemented, only numbers by the ends of names",
        ),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern: q_proj is 0, expected a number above 0"),
        ({"alpha_pattern": [3]}, r"alpha_pattern = \[3\] isn't implemented"),
        ({"r": 3}, "has no pair of matrices of rank 3"),
        ({"base_model_name_or_path": "org/model"}, "its model org/model is not here; set base_model_name"),
        ({"base_model_name_or_path": "smaller"}, "has no linear layer model.layers.1.self_attn.q_proj"),
    ],
    ids=str,
)
def test_adapters_that_cannot_be_used_are_refused(
    llama: Path, write_llama: Callable[..., Path], work: Path, settings: dict[str, Any], said: str
) -> None:
    model = get_peft_model(
        LlamaForCausalLM.from_pretrained(llama), LoraConfig(r=4, target_modules=["q_proj"])
    )
    model.save_pretrained("adapter")
    write_llama(Path("smaller"), num_hidden_layers=1)
    path = Path("adapter/adapter_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(UserError, match=said) as caught:
        open_language_model("adapter")
    assert "\n" not in str(caught.value)
