"""The step's loss and what evaluation logs, against loops, `F.cross_entropy` and each sequence alone."""

from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules.info import SequencePairInfo, TextInfo
from lit_modules.configs.objective import CrossEntropyConfig
from lit_modules.configs.optim import AdamWConfig
from lit_modules.configs.seq2seq import Seq2SeqConfig
from lit_modules.generation.beam_search import beam_search
from lit_modules.generation.special_tokens import BOS, EOS, PAD
from lit_modules.generation.two_way_search import two_way_search
from lit_modules.objective import CrossEntropy
from lit_modules.seq2seq import Seq2Seq

WORDS = ("<pad>", "<bos>", "<eos>", *"abcde")
V, S, T = len(WORDS), 6, 5
INFO = SequencePairInfo(
    source_vocabulary=WORDS,
    target_vocabulary=WORDS,
    source_length=S,
    target_length=T + 1,
    target_groups=(),
    error_names=("token", "sequence", "lenient"),
)
SMALL = Seq2SeqConfig(depth=1, width=16, num_heads=2, linear_std=None)
VARIANTS = {
    "paper": replace(SMALL, norm_first=False, feed_forward="relu"),
    "llama": replace(SMALL, position="rotary", norm="rms_norm", feed_forward="swiglu", bias=False),
    "shared": replace(SMALL, share_embeddings=True, position="learned", decoder_depth=2),
    "apart": replace(SMALL, tie_embeddings=False, num_kv_heads=1, qk_norm=True),
}


def batch(rows: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sources, and as targets their first tokens backwards; of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    source, target = torch.full((rows, S), PAD), torch.full((rows, T + 1), PAD)
    for row in range(rows):
        length = int(torch.randint(1, T, (), generator=generator))
        letters = torch.randint(3, V, (length,), generator=generator)
        source[row, : length + 1] = torch.cat([letters, torch.tensor([EOS])])
        target[row, : length + 2] = torch.cat([torch.tensor([BOS]), letters.flip(0), torch.tensor([EOS])])
    return source, target


def with_alternatives(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return source, target, target.unsqueeze(1)


def loader(*tensors: Tensor, size: int) -> Any:
    return DataLoader(TensorDataset(*tensors), batch_size=size)


def trainer(**options: Any) -> L.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


def build(config: Seq2SeqConfig = SMALL, **options: Any) -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(config, INFO, **options)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_loss_is_that_of_every_real_token(name: str) -> None:
    module = build(VARIANTS[name])
    source, target = batch()
    step = module.training_step((source, target), 0)
    assert step["logits"].shape == (4, T, V)
    assert not step["logits"].requires_grad
    losses = []
    for row in range(4):  # each pair alone, without any padding
        words, answer = source[row][source[row] != PAD], target[row][target[row] != PAD]
        log_probs = module(words[None], answer[None, :-1])[0].log_softmax(-1)
        losses += [-log_probs[t, token] for t, token in enumerate(answer[1:])]
    torch.testing.assert_close(step["loss"], torch.stack(losses).mean())
    step["loss"].backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_label_smoothing_is_pytorch_s_over_real_tokens(smoothing: float) -> None:
    module = build(objective=CrossEntropy(CrossEntropyConfig(label_smoothing=smoothing)))
    source, target = batch()
    labels, logits = target[:, 1:], module(source, target[:, :-1])
    uniform = -logits.log_softmax(-1).mean(-1)
    expected = (1 - smoothing) * F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    expected = (expected + smoothing * uniform)[labels != PAD].mean()
    torch.testing.assert_close(module.training_step((source, target), 0)["loss"], expected)
    library = F.cross_entropy(logits[labels != PAD], labels[labels != PAD], label_smoothing=smoothing)
    torch.testing.assert_close(expected, library)
    (metrics,) = trainer().validate(module, loader(*with_alternatives(source, target), size=4), verbose=False)
    plain = F.cross_entropy(logits[labels != PAD], labels[labels != PAD])
    assert metrics["val/loss"] == pytest.approx(plain.item(), rel=1e-5)


def test_with_both_directions_every_second_target_is_turned_round() -> None:
    module = build(replace(SMALL, directions="both"))
    source, target = batch()
    losses = []
    for row in range(4):
        words, answer = source[row][source[row] != PAD], target[row][target[row] != PAD]
        answer = answer.flip(0) if row % 2 else answer
        assert answer[0] == (EOS if row % 2 else BOS)
        log_probs = module(words[None], answer[None, :-1])[0].log_softmax(-1)
        losses += [-log_probs[t, token] for t, token in enumerate(answer[1:])]
    torch.testing.assert_close(module.training_step((source, target), 0)["loss"], torch.stack(losses).mean())


def test_with_both_directions_the_test_searches_from_both_ends() -> None:
    module = build(replace(SMALL, directions="both", beam_size=3, length_penalty=0.5)).eval()
    source, _ = batch()
    expected = two_way_search(module.network, source, beam_size=3, max_length=T, length_penalty=0.5)
    assert torch.equal(module.write(source), expected.tokens[:, 0])


@pytest.mark.parametrize("stage", ["val", "test"])
def test_logged_metrics_are_those_of_all_sequences_together(stage: str) -> None:
    module = build()
    source, target, alternatives = with_alternatives(*batch(10))
    alternatives = torch.cat([alternatives, torch.full_like(alternatives, PAD)], dim=1)
    written = module.eval().write(source[:1])[0]
    alternatives[0, 1, 0] = BOS
    alternatives[0, 1, 1 : len(written) + 1] = written  # as right as the first one
    run, data = trainer(), loader(source, target, alternatives, size=4)
    for _ in range(2):  # the second pass shows that nothing is left of the first
        (metrics,) = (run.validate if stage == "val" else run.test)(module, data, verbose=False)
        labels = target[:, 1:]
        logits = module(source, target[:, :-1]).detach()
        wrong = 0
        for row in range(1, 10):
            mine = module.write(source[row : row + 1])[0]
            wrong += mine.tolist() != labels[row][labels[row] != PAD].tolist()
        assert metrics[f"{stage}/sequence_error_rate"] == pytest.approx(wrong / 10)
        assert metrics[f"{stage}/loss"] == pytest.approx(
            F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PAD).item(), rel=1e-5
        )
        assert set(metrics) == {
            f"{stage}/{name}" for name in ("loss", "token_error_rate", "sequence_error_rate")
        }


def test_the_test_writes_by_a_beam_and_validation_greedily() -> None:
    module = build(replace(SMALL, beam_size=3, length_penalty=0.5)).eval()
    source, target, alternatives = with_alternatives(*batch())
    expected = beam_search(
        module.network, source, beam_size=3, max_length=T, length_penalty=0.5, n_best=1
    ).tokens[:, 0]
    assert torch.equal(module.write(source), expected)
    greedy = build().eval().write(source)
    run, data = trainer(), loader(source, target, alternatives, size=4)
    written: dict[str, Tensor] = {}
    for stage, step in (("val", "validation_step"), ("test", "test_step")):
        original = getattr(module, step)

        def keep(batch: Any, index: int, original: Any = original, stage: str = stage) -> Any:
            result = original(batch, index)
            written[stage] = result["written"]
            return result

        setattr(module, step, keep)
        (run.validate if stage == "val" else run.test)(module, data, verbose=False)
    assert torch.equal(written["val"], greedy)
    assert torch.equal(written["test"], expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"), [("paper", "32-true"), ("llama", "32-true"), ("shared", "bf16-mixed")]
)
def test_learns_to_write_backwards(name: str, precision: Any) -> None:
    smoothed = CrossEntropy(CrossEntropyConfig(label_smoothing=0.05))
    module = build(VARIANTS[name], objective=smoothed, optimizer=AdamWConfig(lr=1e-2))
    run = trainer(max_epochs=5, precision=precision, gradient_clip_val=1.0)
    held_out = loader(*with_alternatives(*batch(200, seed=2)), size=100)
    run.fit(module, loader(*batch(1500, seed=1), size=25), held_out)
    (metrics,) = run.validate(module, held_out, verbose=False)
    assert metrics["val/sequence_error_rate"] < 0.5
    assert metrics["val/token_error_rate"] < 0.2


def test_half_precision_is_lifted_for_the_loss() -> None:
    module = build()
    with torch.autocast("cpu", torch.bfloat16):
        step = module.training_step(batch(), 0)
    assert step["logits"].dtype == torch.bfloat16
    assert step["loss"].dtype == torch.float32


@pytest.mark.slow
def test_compiling_the_network_changes_neither_names_nor_results() -> None:
    module = build()
    names, expected = list(module.state_dict()), module.training_step(batch(), 0)["loss"]
    module.network.compile(backend="aot_eager")
    assert list(module.state_dict()) == names
    torch.testing.assert_close(module.training_step(batch(), 0)["loss"], expected)


def test_every_value_reaches_the_network() -> None:
    config = replace(
        SMALL, depth=2, decoder_depth=3, dropout=0.1, attention_dropout=0.2, position="learned",
        norm="rms_norm", norm_first=False, embedding_std=0.5, implementation="by_hand",
    )  # fmt: skip
    network = build(config).network
    assert (len(network.encoder.layers), len(network.decoder.layers)) == (2, 3)
    assert network.dropout.p == network.decoder.layers[0].feed_forward.output_dropout.p == 0.1
    cross = network.decoder.layers[2].cross_attention
    assert (cross.dropout, cross.implementation) == (0.2, "by_hand")
    assert network.source_positions.max_length == S
    assert network.target_positions.max_length == T + 1
    assert 0.3 < float(network.target_embedding.weight.detach().std()) < 0.7
    assert network.head.weight is network.target_embedding.weight
    assert len(build(replace(SMALL, depth=3)).network.decoder.layers) == 3
    network = build(replace(SMALL, tie_embeddings=False)).network
    assert network.head.weight is not network.target_embedding.weight


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Seq2Seq can't learn from data of the kind 'text'; .*digit_seq"):
        Seq2Seq(SMALL, TextInfo(vocab_size=4, context_length=3))
    two = replace(INFO, target_vocabulary=(*WORDS[:-1], "f"))
    with pytest.raises(ValueError, match="share_embeddings: true needs one vocabulary"):
        Seq2Seq(replace(SMALL, share_embeddings=True), two)
