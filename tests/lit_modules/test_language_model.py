from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.functional.text import perplexity

from datamodules.info import TextInfo, VectorPairInfo
from lit_modules.configs.language_model import LanguageModelConfig
from lit_modules.configs.optim import AdamWConfig, MuonConfig
from lit_modules.language_model import LanguageModel

V, T = 11, 8
INFO = TextInfo(vocab_size=V, context_length=T, bytes_per_token=1.5, test_bytes_per_token=2.0)
GPT2 = LanguageModelConfig(depth=2, width=16, num_heads=2)
LLAMA = LanguageModelConfig(
    depth=2,
    width=16,
    num_heads=4,
    num_kv_heads=2,
    feed_forward="swiglu",
    norm="rms_norm",
    position="rotary",
    bias=False,
    tie_embeddings=False,
)
MODERN = LanguageModelConfig(
    depth=2,
    width=16,
    num_heads=2,
    feed_forward="squared_relu",
    norm="rms_norm",
    position="rotary",
    bias=False,
    tie_embeddings=False,
    qk_norm=True,
    output_init="zero",
)
CONFIGS = {"gpt2": GPT2, "llama": LLAMA, "modern": MODERN}


def batch(rows: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    text = torch.randint(V, (rows, T + 1), generator=torch.Generator().manual_seed(seed))
    return text[:, :-1].clone(), text[:, 1:].clone()


def loader(tokens: Tensor, targets: Tensor, size: int) -> Any:
    return DataLoader(TensorDataset(tokens, targets), batch_size=size)


def trainer(**options: Any) -> L.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_step_gives_the_loss_of_every_next_token(config: LanguageModelConfig) -> None:
    torch.manual_seed(0)
    module = LanguageModel(config, INFO)
    tokens, targets = batch()
    step = module.training_step((tokens, targets), 0)
    assert step["logits"].shape == (3, T, V)
    assert not step["logits"].requires_grad
    assert step["targets"] is targets
    log_probs = module(tokens).log_softmax(-1)
    expected = -sum(log_probs[b, t, targets[b, t]] for b in range(3) for t in range(T)) / (3 * T)
    torch.testing.assert_close(step["loss"], expected)
    step["loss"].backward()
    assert all(p.grad is not None for p in module.parameters())


def test_a_fresh_network_expects_every_token_alike() -> None:
    torch.manual_seed(0)
    module = LanguageModel(GPT2, INFO)
    assert module.training_step(batch(50), 0)["loss"].item() == pytest.approx(
        torch.tensor(V).log().item(), 0.05
    )


def test_targets_to_be_ignored_count_nowhere() -> None:
    torch.manual_seed(0)
    module = LanguageModel(GPT2, INFO)
    tokens, targets = batch()
    masked = targets.clone()
    masked[0], masked[1, 5:] = -100, -100
    loss = module.training_step((tokens, masked), 0)["loss"]
    losses = F.cross_entropy(module(tokens).flatten(0, 1), targets.flatten(), reduction="none").view(3, T)
    expected = torch.cat([losses[1, :5], losses[2]]).mean()
    torch.testing.assert_close(loss, expected)
    (metrics,) = trainer().validate(module, loader(tokens, masked, 1), verbose=False)  # a batch of none, too
    assert metrics["val/loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_logged_metrics_are_those_of_all_tokens_together(stage: str) -> None:
    torch.manual_seed(0)
    module = LanguageModel(LLAMA, INFO)
    tokens, targets = batch(10)
    targets[7, 2:] = -100  # the last two batches have unequally many tokens
    data = loader(tokens, targets, 4)
    run = trainer()
    for _ in range(2):  # the second pass shows that nothing is left of the first
        (metrics,) = (run.validate if stage == "val" else run.test)(module, data, verbose=False)
        expected = perplexity(module(tokens).detach().double(), targets, ignore_index=-100)
        bytes_per_token = 1.5 if stage == "val" else 2.0
        assert metrics == {
            f"{stage}/loss": pytest.approx(expected.log().item(), rel=1e-5),
            f"{stage}/perplexity": pytest.approx(expected.item(), rel=1e-5),
            f"{stage}/bits_per_byte": pytest.approx(expected.log2().item() / bytes_per_token, rel=1e-5),
        }


def test_without_the_length_of_tokens_there_are_no_bits_per_byte() -> None:
    info = TextInfo(vocab_size=V, context_length=T, bytes_per_token=0.0, test_bytes_per_token=0.0)
    (metrics,) = trainer().validate(LanguageModel(GPT2, info), loader(*batch(), 3), verbose=False)
    assert set(metrics) == {"val/loss", "val/perplexity"}


ADAMW, MUON = AdamWConfig(lr=1e-2), MuonConfig(lr=0.02, adamw_lr=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "optimizer", "precision"),
    [
        (GPT2, ADAMW, "32-true"),
        (LLAMA, MUON, "32-true"),
        (LLAMA, ADAMW, "bf16-mixed"),
        (MODERN, MUON, "bf16-mixed"),
    ],
    ids=["gpt2-adamw", "llama-muon", "llama-adamw-bf16", "modern-muon-bf16"],
)
def test_learns_what_can_be_known_of_a_text(
    config: LanguageModelConfig, optimizer: Any, precision: Any
) -> None:
    """A walk that steps by 1 or 3, so each token leaves the next one a single bit: ln 2 = 0.69 nats."""
    torch.manual_seed(0)
    steps = torch.where(torch.rand(640, T + 1) < 0.5, 1, 3)
    text = (torch.randint(V, (640, 1)) + steps.cumsum(1)) % V
    module = LanguageModel(config, INFO, optimizer=optimizer)
    data = loader(text[:600, :-1], text[:600, 1:], 20)
    held_out = loader(text[600:, :-1], text[600:, 1:], 40)
    run = trainer(max_epochs=6, precision=precision, gradient_clip_val=1.0, accumulate_grad_batches=2)
    run.fit(module, data, held_out)
    (metrics,) = run.validate(module, held_out, verbose=False)
    assert 0.6 < metrics["val/loss"] < 0.85


def test_logits_of_half_precision_are_lifted_for_the_loss_alone() -> None:
    torch.manual_seed(0)
    module = LanguageModel(MODERN, INFO)
    with torch.autocast("cpu", torch.bfloat16):
        step = module.training_step(batch(), 0)
    assert step["logits"].dtype == torch.bfloat16
    assert step["loss"].dtype == torch.float32
    assert module.double().training_step(batch(), 0)["loss"].dtype == torch.float64


@pytest.mark.slow
def test_compiling_the_network_changes_neither_names_nor_results() -> None:
    torch.manual_seed(0)
    module = LanguageModel(MODERN, INFO)
    names, expected = list(module.state_dict()), module.training_step(batch(), 0)["loss"]
    module.network.compile(backend="aot_eager")
    assert list(module.state_dict()) == names
    torch.testing.assert_close(module.training_step(batch(), 0)["loss"], expected)


def test_a_subclass_brings_its_own_network() -> None:
    class Bigram(LanguageModel):
        def build_network(self, config: Any, info: Any) -> nn.Module:
            return nn.Embedding(info.vocab_size, info.vocab_size)

    module = Bigram(GPT2, INFO)
    tokens, targets = batch()
    expected = F.cross_entropy(module.network.weight[tokens].transpose(1, 2), targets)
    torch.testing.assert_close(module.training_step((tokens, targets), 0)["loss"], expected)


def test_data_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind 'vector_pairs'; choose data\.name shakespeare"):
        LanguageModel(GPT2, VectorPairInfo(input_shape=(3,), mean=(0.0,), std=(1.0,), target_scale=1.0))
