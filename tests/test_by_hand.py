"""Every published config trains the same with PyTorch's layers, loss and optimizer, or with ours."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from datamodules.info import (
    DataInfo,
    ImageInfo,
    LabelledTableInfo,
    LabelledTextInfo,
    SequenceLabellingInfo,
    SequencePairInfo,
    TableInfo,
    TextInfo,
    VectorPairInfo,
)
from experiments.config.check import load_config
from experiments.config.root import Config
from experiments.training.build import build_model
from lit_modules.objective import Distillation
from lit_modules.optim.optimizers import build_optimizer

REPOSITORY = Path(__file__).resolve().parent.parent
STEPS = 4
LETTERS = ("<pad>", "<bos>", "<eos>", "a", "b", "c")
SMALLER: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [12, 8]},
    "residual_cnn": {"widths": [4, 6], "blocks": [1, 1]},
    "contrastive_encoder": {"widths": [4, 6], "blocks": [1, 1], "projection": 5},
    "char_rnn": {"hidden": 9},
    "steering": {"hidden": 7},
    "table_classifier": {},
    "table_regression": {},
    "two_layer_classifier": {"hidden": 7},
    "slope": {},
}
"""Settings that make a model tiny; the others are transformers."""


def fits(config: Config) -> list[Config]:
    """The fits of a config that train a model; a study has several."""
    if not config.children:
        return [config] if config.task is None else []
    return [child.config for child in config.children]


def published() -> list[Any]:
    """Every model, objective and optimizer of the published configs, once each."""
    seen, found = set(), []
    for path in sorted((REPOSITORY / "configs").glob("*.yaml")):
        for config in fits(load_config(path)):
            if config.objective is not None and config.objective.name == "grpo":
                continue  # it samples within a fit; the other fits of its config train the same network
            key = repr((config.model, config.objective, config.optimizer, config.data.name))
            if key not in seen:
                seen.add(key)
                found.append(pytest.param(config.plain, id=f"{path.stem}-{len(found)}"))
    return found


def batch_of(config: Config) -> tuple[DataInfo, tuple[Tensor, ...]]:
    """A description of tiny data of the right kind, and a batch of it."""
    torch.manual_seed(1)
    name = config.model.name
    if name == "steering":
        info: DataInfo = VectorPairInfo(input_shape=(6,), mean=(0.5,) * 6, std=(2.0,) * 6, target_scale=1.0)
        return info, (torch.randn(5, 6).double(), torch.randn(5, 6).double())
    if name == "slope":
        one: dict[str, Any] = {"mean": (0.0,), "std": (1.0,), "target_mean": (0.0,), "target_std": (1.0,)}
        info = TableInfo(input_shape=(1,), feature_names=("x",), target_names=("y",), **one)
        return info, (torch.randn(5, 1).double(), torch.randn(5, 1).double())
    if name.startswith("table_"):
        columns: dict[str, Any] = {
            "input_shape": (6,),
            "feature_names": tuple("abcdef"),
            "mean": (0.0,) * 6,
            "std": (1.0,) * 6,
        }
        rows = torch.randn(5, 6).double()
        if name == "table_classifier":
            return LabelledTableInfo(**columns, class_names=("a", "b")), (rows, torch.arange(5) % 2)
        info = TableInfo(**columns, target_names=("y",), target_mean=(3.0,), target_std=(2.0,))
        return info, (rows, torch.randn(5, 1).double())
    if name == "seq2seq":
        info = SequencePairInfo(
            source_vocabulary=LETTERS, target_vocabulary=LETTERS, source_length=6, target_length=7
        )
        source, target = torch.randint(3, 6, (4, 6)), torch.randint(3, 6, (4, 7))
        source[1, 4:], target[:, 0], target[2, 5:] = 0, 1, 0
        return info, (source, target)
    if name == "text_classifier":
        info = LabelledTextInfo(class_names=("a", "b", "c"), vocab_size=9, context_length=6)
        tokens = torch.randint(9, (5, 6))
        tokens[0, 4:] = -1
        return info, (tokens, torch.randint(3, (5,)))
    if name == "char_rnn" and config.data.name == "hello":
        info = SequenceLabellingInfo(class_names=("e", "h", "l", "o"), vocab_size=4, context_length=5)
        return info, (torch.randint(4, (1, 5)), torch.randint(4, (1, 5)))
    if name in ("char_rnn", "language_model", "answer_model"):
        answers = {"answer_length": 3, "answer_end": 2} if name == "answer_model" else {"continuous": True}
        info = TextInfo(vocab_size=11, context_length=6, **answers)
        tokens, targets = torch.randint(11, (4, 6)), torch.randint(11, (4, 6))
        targets[0, 4:] = -100
        return info, (tokens, targets)
    info = ImageInfo(
        input_shape=(1, 16, 16),
        class_names=tuple("0123456789"),  # some configs have a setting for each class
        mean=(0.5,),
        std=(0.25,),
        views=2 if name == "contrastive_encoder" else 1,
    )
    views = tuple(torch.randn(6, 1, 16, 16).double() for _ in range(info.views))
    return info, (*views, torch.randint(3, (6,)))


def small(plain: dict[str, Any], implementation: str) -> Config:
    """The config with a tiny model, and every part of one implementation."""
    model = dict(plain["model"])
    if "depth" in model:
        heads = min(model["num_heads"], 2)
        model |= {"depth": 2, "num_heads": heads, "num_kv_heads": None, "head_dim": None, "width": 8 * heads}
        model |= {"feed_forward_width": None}
    elif model["name"] != "char_rnn" or model["hidden"] > 10:
        model |= SMALLER[model["name"]]
    sections = {"model": model, "data": plain["data"]}
    for kind in ("objective", "optimizer"):
        if plain.get(kind):  # some models have their own loss
            sections[kind] = dict(plain[kind])
    for section in sections.values():
        if "implementation" in section:
            section["implementation"] = implementation
    return load_config(sections)


def built(config: Config, info: DataInfo) -> Any:
    """The model; a student gets a teacher."""
    module = build_model(config, info)
    if isinstance(module.objective, Distillation):
        module.objective.teacher = Doubling()
    return module


class Doubling(nn.Module):
    """A teacher without a kernel of the library."""

    def forward(self, images: Tensor) -> Tensor:
        return 2 * images.flatten(1)[:, :10]


def train(config: Config) -> tuple[list[float], dict[str, Tensor], nn.Module]:
    """Train for some steps in fp64: the losses, the initial weights, and the model."""
    info, batch = batch_of(config)
    torch.manual_seed(0)
    module = built(config, info)
    initial = {key: value.clone() for key, value in module.state_dict().items()}
    module.double().train()
    optimizer = build_optimizer(module, config.optimizer.config)
    losses = []
    torch.manual_seed(2)  # of the dropout
    for step in range(STEPS):
        loss = module.training_step(batch, step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, initial, module


@pytest.mark.parametrize("plain", published())
def test_a_config_trains_the_same_by_hand(plain: dict[str, Any]) -> None:
    losses, initial, module = train(small(plain, "fused"))
    by_hand, same, ours = train(small(plain, "by_hand"))
    assert by_hand == pytest.approx(losses, rel=1e-5, abs=1e-5)
    assert len(set(losses)) > 1
    assert list(same) == list(initial)
    assert all(torch.equal(same[key], initial[key]) for key in initial)
    ours.load_state_dict(module.state_dict())


class Called(TorchFunctionMode):
    """The names of the functions of PyTorch that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.__name__)
        return func(*args, **(kwargs or {}))


KERNELS = {"linear", "embedding", "conv2d", "max_pool2d", "batch_norm", "layer_norm", "rms_norm", "dropout"}
KERNELS |= {"relu", "gelu", "silu", "softmax", "log_softmax", "scaled_dot_product_attention"}
KERNELS |= {"rnn_tanh", "lstm", "gru", "rnn_tanh_cell", "lstm_cell", "gru_cell"}
KERNELS |= {"cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "kl_div"}


@pytest.mark.parametrize("plain", published())
def test_by_hand_no_kernel_of_the_library_is_called(plain: dict[str, Any]) -> None:
    called = {}
    for implementation in ("fused", "by_hand"):
        config = small(plain, implementation)
        info, batch = batch_of(config)
        module = built(config, info).double().train()
        with Called() as called[implementation]:
            module.training_step(batch, 0)
    assert called["by_hand"].names & KERNELS == set()
    assert called["fused"].names & KERNELS


LIBRARY = (nn.Linear, nn.Conv2d, nn.Embedding, nn.MaxPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout)
LIBRARY += (nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)


@pytest.mark.parametrize("plain", published())
def test_by_hand_no_layer_is_the_librarys(plain: dict[str, Any]) -> None:
    config = small(plain, "by_hand")
    module = build_model(config, batch_of(config)[0])
    assert [name for name, layer in module.named_modules() if type(layer) in LIBRARY] == []
    fused = build_model(small(plain, "fused"), batch_of(config)[0])
    library = (*LIBRARY, nn.RNNBase, nn.RNNCellBase)
    assert any(isinstance(layer, library) for layer in fused.modules())
