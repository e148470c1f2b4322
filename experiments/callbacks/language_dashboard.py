"""The TensorBoard dashboard of a language model: samples, attention and FLOP utilisation."""

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from experiments.callbacks import pictures
from experiments.callbacks.dashboard import Dashboard
from experiments.callbacks.flops import measured_peak, number_format, training_flops
from experiments.callbacks.milestones import parts_over
from experiments.callbacks.summary import inspection, is_sharded, si
from experiments.callbacks.tensorboard import add_picture, writer
from experiments.callbacks.training_curve import TrainingCurve, log_values, tokens_per_sample
from lit_modules.configs.generation import SamplingConfig
from lit_modules.generation.generate import generate
from lit_modules.networks.decoding_lm import DecodingLM
from lit_modules.networks.transformer_lm import TransformerLM

DRAWINGS = 10
"""Largest number of times that samples and attention are drawn in a fit."""
SAMPLES, NEW_TOKENS, TEMPERATURE = 2, 160, 0.8
PROMPT_TOKENS, SENTENCE_TOKENS = 32, 24
SHOWN_LAYERS, SHOWN_HEADS = 12, 12


class LanguageDashboard(Dashboard):
    """Draws the dashboard of a language model.

    The module has a `network` that returns logits of the next tokens. `trainer.datamodule` has a `tokenizer`
    and `tokens("val")`; without a tokenizer there are no samples.

    - At each point of the training curve: `train/perplexity` and `train/flop_utilisation`, the operations of
      training per second as a share of the machine's peak. The peak is measured at the start of the fit in
      the precision of the run, and written as the text `machine/peak`.
    - After at most ten validations, evenly spread and including the last: two samples that continue the start
      of the validation text. For a transformer also the attention of all heads in its first tokens, and the
      mean of the last layer, larger and labelled.

    With several processes, rank zero draws. Sharded networks are not sampled.
    """

    trained = ("perplexity",)
    charts = MappingProxyType({"model FLOP utilisation": ("^train/flop_utilisation$",)})

    def __init__(self) -> None:
        self._flops = 0
        self._peak = math.nan
        self._curve: TrainingCurve | None = None
        self._point: dict[str, float] = {}
        self._drawn: int | None = None
        self._undrawn = False

    def state_dict(self) -> dict[str, Any]:
        """Return what is drawn already."""
        return {"drawn": self._drawn, "undrawn": self._undrawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what is drawn already."""
        self._drawn, self._undrawn = state_dict["drawn"], state_dict["undrawn"]

    # The training curve -------------------------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the layout, and measure the peak of the machine."""
        super().on_train_start(trainer, pl_module)
        self._curve = next((c for c in trainer.callbacks if isinstance(c, TrainingCurve)), None)  # type: ignore[attr-defined]
        self._point = {} if self._curve is None else self._curve.point
        over = parts_over(trainer, pl_module, DRAWINGS)
        # A part that was over before a resume but is not drawn yet is drawn at the next validation.
        self._drawn = over if self._drawn is None else min(over, self._drawn)
        to = writer(trainer)
        if to is None:
            return
        self._flops = 0 if is_sharded(trainer) else training_flops(pl_module)
        if self._flops:
            dtype = number_format(str(trainer.precision))
            self._peak = measured_peak(pl_module.device, dtype)
            each = (
                f"training takes {si(self._flops)}FLOP per sample; the peak is {si(round(self._peak))}FLOP/s"
            )
            how = f"the best product of two large {str(dtype).removeprefix('torch.')} matrices"
            to.add_text("machine/peak", f"{each}: {how} on {pl_module.device}", trainer.global_step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add perplexity and FLOP utilisation to a new point of the training curve."""
        if self._curve is None or self._curve.point is self._point:
            return
        self._point = self._curve.point
        values = {"train/perplexity": math.exp(min(self._point["train/loss"], 80))}
        tokens_per_second = self._point.get("train/tokens_per_second")
        if self._flops and tokens_per_second:
            flops_per_second = self._flops / tokens_per_sample(pl_module) * tokens_per_second
            values["train/flop_utilisation"] = flops_per_second / (self._peak * trainer.world_size)
        log_values(trainer, values, trainer.global_step)

    # Samples and attention ----------------------------------------------------------------------------------

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw if it is due; with averaged weights, the module holds the average here."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        over, self._undrawn = parts_over(trainer, pl_module, DRAWINGS), True
        if over > (self._drawn or 0):
            self._drawn = over
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw after the last validation, if that is not done yet."""
        if self._undrawn:
            self._draw(trainer, pl_module)

    on_fit_end = on_train_end  # Lightning does not call `on_train_end` if nothing is left to train

    def _draw(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._undrawn = False
        to = writer(trainer)
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        tokenizer = getattr(datamodule, "tokenizer", None)
        if to is None or tokenizer is None or is_sharded(trainer):
            return
        text = [int(token) for token in datamodule.tokens("val")[: max(PROMPT_TOKENS, SENTENCE_TOKENS)]]
        with inspection(pl_module):
            step = trainer.global_step
            prompt = text[:PROMPT_TOKENS]
            to.add_text("samples", written(pl_module.network, tokenizer, prompt), step)
            if isinstance(pl_module.network, TransformerLM):
                sentence = text[: min(SENTENCE_TOKENS, pl_module.network.context_length)]
                _draw_attention(to, pl_module.network, tokenizer, sentence, step)


def written(network: Any, tokenizer: Any, prompt: Sequence[int]) -> str:
    """Generate continuations of a prompt as Markdown that keeps line breaks."""
    settings = SamplingConfig(temperature=TEMPERATURE, max_new_tokens=NEW_TOKENS)
    if isinstance(network, TransformerLM):
        network = DecodingLM(network)  # takes less than half the time
    rows = generate(network, [prompt] * SAMPLES, settings, seeds=range(SAMPLES))
    pieces = []
    for seed, row in enumerate(rows):
        text = tokenizer.decode(prompt) + "▌" + tokenizer.decode(row)
        pieces.append(f"temperature {TEMPERATURE}, seed {seed}, from ▌ on\n\n")
        pieces.append("".join(f"    {line}\n" for line in text.split("\n")) + "\n")
    return "".join(pieces)


@torch.no_grad()
def attention_maps(network: TransformerLM, tokens: Tensor) -> Tensor:
    """Return the attention weights of all heads for one text: (T,) → (L, H, T, T), in fp32."""
    states: list[Tensor] = []
    network(tokens.unsqueeze(0), hidden_states=states)
    maps = []
    for layer, x in zip(network.trunk.layers, states[:-1], strict=True):
        seen = layer.attention_norm(x) if layer.norm_first else x  # type: ignore[operator]
        maps.append(layer.attention.weights(seen)[0])  # type: ignore[union-attr,operator]
    return torch.stack(maps).float()


def _draw_attention(
    to: SummaryWriter, network: TransformerLM, tokenizer: Any, sentence: Sequence[int], step: int
) -> None:
    tokens = torch.tensor(sentence, device=network.embedding.weight.device)
    maps = attention_maps(network, tokens).cpu().numpy()
    shown = maps[:SHOWN_LAYERS, :SHOWN_HEADS]
    title = f"by layer and head: {visible(tokenizer.decode(sentence))}"
    add_picture(to, "attention/heads", pictures.attention_grid(shown, title), step)
    names = [visible(tokenizer.decode([token])) for token in sentence]
    title = f"layer {len(maps)}, mean of {maps.shape[1]} heads"
    add_picture(to, "attention/last_layer", pictures.attention_map(maps[-1].mean(0), names, title), step)


def visible(token: str) -> str:
    """Replace spaces, line breaks and tabs by visible signs."""
    return token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
