"""Baselines: scikit-learn models on the split that the networks train on, and scored like them.

Pixels (uint8) are scaled to [0, 1]; other inputs are taken as they are. Either way a sample is one flat row.

Shape letters: N samples, F features (all of a sample's values), K classes.
"""

import time
import warnings
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from experiments.baselines_config import (
    KNearestNeighborsConfig,
    LinearRegressionConfig,
    LogisticRegressionConfig,
    MajorityClassConfig,
)
from experiments.errors import UserError

Array = NDArray[Any]


class SplitData(Protocol):
    """What a baseline needs of a datamodule."""

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Raw inputs (N, …) and targets (N,) of ``"train"``, ``"val"`` or ``"test"``."""


def run_baseline(config: Any, datamodule: SplitData, seed: int) -> dict[str, float]:
    """Fit a baseline to the training split and scores it on the validation and test splits.

    Args:
        config: one of the schemas in ``baselines_config``; its type says which baseline.
        datamodule: gives the three splits.
        seed: of the baselines that draw random numbers.

    Returns:
        ``val/…`` and ``test/…`` of ``accuracy`` for classes, and of ``loss`` (cross-entropy) where the model
        gives probabilities that are never zero; of ``loss`` (mean squared error) and ``r2`` for real targets.
        ``fit_seconds`` of the fit alone, ``parameters`` it stores, and ``converged`` for an iterative fit.

    Raises:
        UserError: a classifier is asked to predict real numbers, or more neighbours than there are samples.
    """
    inputs, targets = _rows(datamodule, "train")
    classes = targets.dtype.kind in "iu"
    if not classes and not isinstance(config, LinearRegressionConfig):
        raise UserError(f"{type(config).__name__} predicts classes, but the targets are {targets.dtype}")
    if isinstance(config, KNearestNeighborsConfig) and config.neighbors > len(inputs):
        raise UserError(f"neighbors: {config.neighbors} is more than the {len(inputs)} training samples")
    model = _build(config, seed)
    one_hot = classes and isinstance(config, LinearRegressionConfig)
    fitted_to = (
        np.eye(targets.max() + 1, dtype=inputs.dtype)[targets] if one_hot else targets
    )  # (N, K) or (N,)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said by `converged`
        model.fit(inputs, fitted_to)
    metrics = {
        "fit_seconds": time.perf_counter() - start,
        "parameters": float(_stored_numbers(model, inputs)),
    }
    if isinstance(config, LogisticRegressionConfig):
        metrics["converged"] = float(max(model.n_iter_) < config.max_iterations)
    for stage in ("val", "test"):
        scores = _score(model, *_rows(datamodule, stage), classes=classes, one_hot=one_hot)
        metrics |= {f"{stage}/{name}": value for name, value in scores.items()}
    return metrics


def _build(config: Any, seed: int) -> Any:
    match config:
        case LogisticRegressionConfig():
            return LogisticRegression(
                C=config.inverse_penalty, max_iter=config.max_iterations, random_state=seed
            )
        case LinearRegressionConfig():
            return Ridge(alpha=config.penalty, random_state=seed)
        case KNearestNeighborsConfig():
            return KNeighborsClassifier(
                config.neighbors, algorithm="brute"
            )  # trees don't help in 784 dimensions
        case MajorityClassConfig():
            return DummyClassifier(strategy="prior")
    raise UserError(f"no baseline is known for a config of type {type(config).__name__}")


def _rows(datamodule: SplitData, name: str) -> tuple[Array, Array]:
    """Inputs (N, F) and targets (N,)."""
    inputs, targets = datamodule.split(name)
    rows = inputs.cpu().flatten(start_dim=1).numpy()
    return (rows.astype(np.float32) / 255 if rows.dtype == np.uint8 else rows), targets.cpu().numpy()


def _score(model: Any, inputs: Array, targets: Array, *, classes: bool, one_hot: bool) -> dict[str, float]:
    predicted = model.predict(inputs)
    if not classes:
        return {"loss": mean_squared_error(targets, predicted), "r2": r2_score(targets, predicted)}
    scores = {"accuracy": accuracy_score(targets, predicted.argmax(axis=1) if one_hot else predicted)}
    if isinstance(model, LogisticRegression | DummyClassifier):
        scores["loss"] = log_loss(targets, model.predict_proba(inputs), labels=model.classes_)
    return {name: float(value) for name, value in scores.items()}


def _stored_numbers(model: Any, inputs: Array) -> int:
    """How many numbers a prediction needs; the nearest neighbours are the whole training set."""
    if isinstance(model, KNeighborsClassifier):
        return inputs.size
    if isinstance(model, DummyClassifier):
        return model.class_prior_.size
    return model.coef_.size + np.size(model.intercept_)
