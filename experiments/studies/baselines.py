"""Baselines: scikit-learn models on the split that the networks train on, and scored like them.

Pixels (uint8) are scaled to [0, 1]; other inputs are taken as they are. Either way a sample is one flat row.
Of texts a bag of words sees the very words, and there macro-F1 and AUC are scored too.

Shape letters: N samples, F features (all of a sample's values), K classes, D values of a real target.
"""

import time
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, mean_squared_error, r2_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from torch import Tensor

from experiments.config.baselines import (
    BagOfWordsConfig,
    KNearestNeighborsConfig,
    LinearRegressionConfig,
    LogisticRegressionConfig,
    MajorityClassConfig,
    MeanTargetConfig,
)
from experiments.errors import UserError
from experiments.training.confusion import Confusion
from lit_modules.functional.ranking import one_vs_rest_auc

Array = NDArray[Any]

REGRESSIONS = (LinearRegressionConfig, MeanTargetConfig)
"""The baselines that predict real numbers; the first of them predicts classes too."""


class SplitData(Protocol):
    """What a baseline needs of a datamodule; one of texts also has `texts(name)`, a list of N strings."""

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Raw inputs (N, …) and targets, (N,) or (N, D), of `"train"`, `"val"` or `"test"`."""


def run_baseline(
    config: Any, datamodule: SplitData, seed: int, *, confusion_to: Path | None = None
) -> dict[str, float]:
    """Fit a baseline to the training split and scores it on the validation and test splits.

    Args:
        config: one of the schemas in `baselines_config`; its type says which baseline.
        datamodule: gives the three splits.
        seed: of the baselines that draw random numbers.
        confusion_to: the folder that a classifier's confusion matrix of the test split is written to.

    Returns:
        `val/…` and `test/…` of `accuracy` for classes, and of `loss` (cross-entropy) where the model
        gives probabilities that are never zero, of texts also `macro_f1` and `auc` as the text classifier
        logs them; of `loss` (mean squared error) and `r2` for real targets, and of their mean `cosine`
        where they are vectors. `fit_seconds` of the fit alone, `parameters` it stores, and `converged`
        for an iterative fit.

    Raises:
        UserError: a classifier is asked to predict real numbers or the mean to predict classes, or more
            neighbours than there are samples; a bag of words is given no texts, or texts are given to what
            adds up the numbers of their tokens.
    """
    of_texts = hasattr(datamodule, "texts")
    if of_texts and not isinstance(config, BagOfWordsConfig | MajorityClassConfig):
        raise UserError(f"{type(config).__name__} needs numbers, and this data is texts; use bag_of_words")
    if not of_texts and isinstance(config, BagOfWordsConfig):
        raise UserError("bag_of_words needs texts, and this data has none; use logistic_regression")
    read = _texts if isinstance(config, BagOfWordsConfig) else _rows
    inputs: Any
    inputs, targets = read(datamodule, "train")
    classes = targets.dtype.kind in "iu"
    if not classes and not isinstance(config, REGRESSIONS):
        raise UserError(f"{type(config).__name__} predicts classes, but the targets are {targets.dtype}")
    if classes and isinstance(config, MeanTargetConfig):
        raise UserError("mean_target predicts real numbers, but the targets are classes; use majority_class")
    if isinstance(config, KNearestNeighborsConfig) and config.neighbors > len(inputs):
        raise UserError(f"neighbors: {config.neighbors} is more than the {len(inputs)} training samples")
    model = _build(config, seed)
    one_hot = classes and isinstance(config, LinearRegressionConfig)
    fitted_to = (
        np.eye(targets.max() + 1, dtype=inputs.dtype)[targets] if one_hot else targets
    )  # (N, K), (N,) or (N, D)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said by `converged`
        model.fit(inputs, fitted_to)
    metrics = {
        "fit_seconds": time.perf_counter() - start,
        "parameters": float(_stored_numbers(model, inputs)),
    }
    if isinstance(config, LogisticRegressionConfig):
        metrics["converged"] = float(max(_last(model).n_iter_) < config.max_iterations)
    for stage in ("val", "test"):
        inputs, targets = read(datamodule, stage)
        scores = _score(model, inputs, targets, classes=classes, one_hot=one_hot)
        if of_texts:
            scores |= _ranking_scores(model, inputs, targets)
        metrics |= {f"{stage}/{name}": value for name, value in scores.items()}
    if confusion_to is not None and classes and not one_hot:
        names = datamodule.info.class_names  # type: ignore[attr-defined]
        counts = confusion_matrix(targets, model.predict(inputs), labels=range(len(names)))
        Confusion(class_names=names, counts=tuple(map(tuple, counts.tolist()))).write(confusion_to)
    return metrics


def _build(config: Any, seed: int) -> Any:
    match config:
        case LogisticRegressionConfig():
            regression = LogisticRegression(
                C=config.inverse_penalty, max_iter=config.max_iterations, random_state=seed
            )
            if not isinstance(config, BagOfWordsConfig):
                return regression
            words = TfidfVectorizer(lowercase=False, token_pattern=r"\S+", sublinear_tf=True)
            return make_pipeline(words, regression)
        case LinearRegressionConfig():
            return Ridge(alpha=config.penalty, random_state=seed)
        case KNearestNeighborsConfig():
            return KNeighborsClassifier(
                config.neighbors, algorithm="brute"
            )  # trees don't help in 784 dimensions
        case MajorityClassConfig():
            return DummyClassifier(strategy="prior")
        case MeanTargetConfig():
            return DummyRegressor(strategy="mean")
    raise UserError(f"no baseline is known for a config of type {type(config).__name__}")


def _rows(datamodule: SplitData, name: str) -> tuple[Array, Array]:
    """Inputs (N, F) and targets (N,) or (N, D)."""
    inputs, targets = datamodule.split(name)
    rows = inputs.cpu().flatten(start_dim=1).numpy()
    return (rows.astype(np.float32) / 255 if rows.dtype == np.uint8 else rows), targets.cpu().numpy()


def _texts(datamodule: Any, name: str) -> tuple[list[str], Array]:
    """N texts and targets (N,)."""
    return datamodule.texts(name), datamodule.split(name)[1].cpu().numpy()


def _last(model: Any) -> Any:
    """What predicts, behind what makes numbers of texts."""
    return model[-1] if isinstance(model, Pipeline) else model


def _score(model: Any, inputs: Any, targets: Array, *, classes: bool, one_hot: bool) -> dict[str, float]:
    predicted = model.predict(inputs)
    if not classes:
        real = {
            "loss": mean_squared_error(targets, predicted),
            "r2": r2_score(targets, predicted, multioutput="variance_weighted"),
        }
        if targets.ndim == 2:
            real["cosine"] = _mean_cosine(targets, predicted)
        return {name: float(value) for name, value in real.items()}
    scores = {"accuracy": accuracy_score(targets, predicted.argmax(axis=1) if one_hot else predicted)}
    if isinstance(_last(model), LogisticRegression | DummyClassifier):
        scores["loss"] = log_loss(targets, model.predict_proba(inputs), labels=model.classes_)
    return {name: float(value) for name, value in scores.items()}


def _ranking_scores(model: Any, inputs: Any, targets: Array) -> dict[str, float]:
    probabilities = np.zeros((len(targets), int(max(targets.max(), model.classes_.max())) + 1))  # (N, K)
    probabilities[:, model.classes_] = model.predict_proba(inputs)
    macro_f1 = f1_score(targets, model.predict(inputs), average="macro", zero_division=0)
    auc = one_vs_rest_auc(torch.from_numpy(probabilities), torch.from_numpy(targets))
    return {"macro_f1": float(macro_f1), "auc": auc}


def _mean_cosine(targets: Array, predicted: Array) -> float:
    """Over the targets that aren't zero; a prediction of zero has a cosine of 0."""
    sizes = np.linalg.norm(targets, axis=1)
    directed = sizes > 0
    products = (targets * predicted).sum(axis=1)[directed]
    norms = (sizes * np.linalg.norm(predicted, axis=1))[directed]
    return float(np.divide(products, norms, out=np.zeros_like(products), where=norms > 0).mean())


def _stored_numbers(model: Any, inputs: Any) -> int:
    """How many numbers a prediction needs; the nearest neighbours are the whole training set."""
    if isinstance(model, Pipeline):
        return model[0].idf_.size + _stored_numbers(model[-1], inputs)
    if isinstance(model, KNeighborsClassifier):
        return inputs.size
    if isinstance(model, DummyClassifier):
        return model.class_prior_.size
    if isinstance(model, DummyRegressor):
        return model.constant_.size
    return model.coef_.size + np.size(model.intercept_)
