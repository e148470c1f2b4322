"""Baselines: scikit-learn models on the same splits as the networks, with the same scores.

Each sample is one flat row. Pixels (uint8) are scaled to [0, 1]; other inputs are not changed. The bag of
words reads the words of a text. For texts and tables, macro-F1 and AUC are scored too.

Shape letters: N samples, F features (all values of a sample), K classes, D values of a real target.
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

from datamodules.info import LabelledTableInfo
from experiments.config.baselines import (
    BagOfWordsConfig,
    GridSearchConfig,
    KNearestNeighborsConfig,
    LinearRegressionConfig,
    LogisticRegressionConfig,
    MajorityClassConfig,
    MeanTargetConfig,
)
from experiments.errors import UserError
from experiments.studies.grid_search import GridSearch
from experiments.training.confusion import Confusion
from experiments.training.curve_file import CURVE_HEADER
from experiments.training.run_directory import write_csv
from lit_modules.functional.ranking import one_vs_rest_auc

Array = NDArray[Any]

REGRESSIONS = (LinearRegressionConfig, MeanTargetConfig, GridSearchConfig)
"""Baselines that predict real numbers. The first one also predicts classes."""


class SplitData(Protocol):
    """The datamodule of a baseline. One of texts also has `texts(name)`, a list of N strings."""

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Return raw inputs (N, …) and targets (N,) or (N, D) of `"train"`, `"val"` or `"test"`."""


def run_baseline(
    config: Any, datamodule: SplitData, seed: int, *, records_to: Path | None = None, own: Any = None
) -> dict[str, float]:
    """Fit a baseline on the training split and score it on the validation and test splits.

    Args:
        config: A schema in `experiments.config.baselines`; its type selects the baseline.
        datamodule: Gives the three splits.
        seed: Seed of baselines that draw random numbers.
        records_to: Folder for the confusion matrix of a classifier on the test split, and for the curve of a
            grid search.
        own: An own estimator of scikit-learn's kind, instead of one for the config.

    Returns:
        Scores with the prefixes `val/` and `test/`, and `fit_seconds`, `parameters` (stored numbers) and, for
        an iterative fit, `converged`. Scores of classes: `accuracy`; `loss` (cross-entropy) if the baseline
        gives probabilities that are never zero; for texts and tables also `macro_f1` and `auc`. Scores of
        real targets: `loss` (mean squared error), `r2`, and the mean `cosine` for vectors.

    Raises:
        UserError: The baseline does not fit the kind of inputs or targets, or has more neighbors than there
            are samples.
    """
    of_texts = hasattr(datamodule, "texts")
    if own is None:
        _check_inputs(config, of_texts)
    read = _texts if isinstance(config, BagOfWordsConfig) else _rows
    inputs: Any
    inputs, targets = read(datamodule, "train")
    classes = targets.dtype.kind in "iu"
    if own is None:
        _check_targets(config, targets, classes)
    model = _build(config, seed) if own is None else own
    one_hot = classes and isinstance(config, LinearRegressionConfig)
    # (N, K) for one-hot classes, else (N,) or (N, D).
    fitted_to = np.eye(targets.max() + 1, dtype=inputs.dtype)[targets] if one_hot else targets
    metrics = _fit(model, inputs, fitted_to)
    if isinstance(config, LogisticRegressionConfig):
        metrics["converged"] = float(max(_predictor(model).n_iter_) < config.max_iterations)
    for stage in ("val", "test"):
        inputs, targets = read(datamodule, stage)
        scores = _score(model, inputs, targets, classes=classes, one_hot=one_hot)
        if classes and hasattr(model, "predict_proba") and (of_texts or _of_tables(datamodule)):
            scores |= _ranking_scores(model, inputs, targets)
        metrics |= {f"{stage}/{name}": value for name, value in scores.items()}
    if records_to is not None and isinstance(model, GridSearch):
        rows = [(n, n, "train/loss", repr(float(loss))) for n, loss in enumerate(model.losses)]
        write_csv(records_to / "metrics.csv", [CURVE_HEADER, *rows])
    if records_to is not None and classes and not one_hot:
        names = datamodule.info.class_names  # type: ignore[attr-defined]
        counts = confusion_matrix(targets, model.predict(inputs), labels=range(len(names)))
        Confusion(class_names=names, counts=tuple(map(tuple, counts.tolist()))).write(records_to)
    return metrics


def _of_tables(datamodule: SplitData) -> bool:
    return isinstance(getattr(datamodule, "info", None), LabelledTableInfo)


def _check_inputs(config: Any, of_texts: bool) -> None:
    """Refuse texts for baselines on numbers, and numbers for the bag of words."""
    if of_texts and not isinstance(config, BagOfWordsConfig | MajorityClassConfig):
        raise UserError(f"{type(config).__name__} needs numbers, but the data is texts; use bag_of_words")
    if not of_texts and isinstance(config, BagOfWordsConfig):
        raise UserError("bag_of_words needs texts, but the data has none; use logistic_regression")


def _check_targets(config: Any, targets: Array, classes: bool) -> None:
    """Refuse real targets for classifiers, classes for the mean, and too many neighbors."""
    if not classes and not isinstance(config, REGRESSIONS):
        raise UserError(f"{type(config).__name__} predicts classes, but the targets are {targets.dtype}")
    if classes and isinstance(config, MeanTargetConfig | GridSearchConfig):
        name = "mean_target" if isinstance(config, MeanTargetConfig) else "grid_search"
        raise UserError(f"{name} predicts real numbers, but the targets are classes; use majority_class")
    if isinstance(config, KNearestNeighborsConfig) and config.neighbors > len(targets):
        raise UserError(f"neighbors: {config.neighbors} is more than the {len(targets)} training samples")


def _fit(model: Any, inputs: Any, targets: Array) -> dict[str, float]:
    """Fit a model; return the time that it took and the numbers that it stores."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # The metric `converged` says it.
        model.fit(inputs, targets)
    seconds = time.perf_counter() - start
    parameters = _stored_numbers(model, inputs)
    return {"fit_seconds": seconds} | ({} if parameters is None else {"parameters": float(parameters)})


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
            # Trees do not help in 784 dimensions.
            return KNeighborsClassifier(config.neighbors, algorithm="brute")
        case MajorityClassConfig():
            return DummyClassifier(strategy="prior")
        case MeanTargetConfig():
            return DummyRegressor(strategy="mean")
        case GridSearchConfig():
            return GridSearch(low=config.low, high=config.high, trials=config.trials)
    raise UserError(f"there is no baseline for a config of type {type(config).__name__}")


def _rows(datamodule: SplitData, name: str) -> tuple[Array, Array]:
    """Return inputs (N, F) and targets (N,) or (N, D)."""
    inputs, targets = datamodule.split(name)
    rows = inputs.cpu().flatten(start_dim=1).numpy()
    return (rows.astype(np.float32) / 255 if rows.dtype == np.uint8 else rows), targets.cpu().numpy()


def _texts(datamodule: Any, name: str) -> tuple[list[str], Array]:
    """Return N texts and targets (N,)."""
    return datamodule.texts(name), datamodule.split(name)[1].cpu().numpy()


def _predictor(model: Any) -> Any:
    """Return the predictor, which in a pipeline comes after the vectorizer of texts."""
    return model[-1] if isinstance(model, Pipeline) else model


def _score(model: Any, inputs: Any, targets: Array, *, classes: bool, one_hot: bool) -> dict[str, float]:
    predicted = model.predict(inputs)
    if not classes:
        real = {
            "loss": mean_squared_error(targets, predicted),
            "r2": r2_score(targets, predicted, multioutput="variance_weighted"),
        }
        if targets.ndim == 2 and targets.shape[1] > 1:
            real["cosine"] = _mean_cosine(targets, predicted)
        return {name: float(value) for name, value in real.items()}
    scores = {"accuracy": accuracy_score(targets, predicted.argmax(axis=1) if one_hot else predicted)}
    if isinstance(_predictor(model), LogisticRegression | DummyClassifier):
        scores["loss"] = log_loss(targets, model.predict_proba(inputs), labels=model.classes_)
    return {name: float(value) for name, value in scores.items()}


def _ranking_scores(model: Any, inputs: Any, targets: Array) -> dict[str, float]:
    probabilities = np.zeros((len(targets), int(max(targets.max(), model.classes_.max())) + 1))  # (N, K)
    probabilities[:, model.classes_] = model.predict_proba(inputs)
    macro_f1 = f1_score(targets, model.predict(inputs), average="macro", zero_division=0)
    auc = one_vs_rest_auc(torch.from_numpy(probabilities), torch.from_numpy(targets))
    return {"macro_f1": float(macro_f1), "auc": auc}


def _mean_cosine(targets: Array, predicted: Array) -> float:
    """Return the mean cosine over targets that are not zero. The cosine of a zero prediction is 0."""
    sizes = np.linalg.norm(targets, axis=1)
    directed = sizes > 0
    products = (targets * predicted).sum(axis=1)[directed]
    norms = (sizes * np.linalg.norm(predicted, axis=1))[directed]
    return float(np.divide(products, norms, out=np.zeros_like(products), where=norms > 0).mean())


def _stored_numbers(model: Any, inputs: Any) -> int | None:
    """Count the numbers needed for a prediction; for nearest neighbors, the whole training set.

    `None` if an own estimator does not say.
    """
    if isinstance(model, Pipeline):
        return model[0].idf_.size + model[-1].coef_.size + model[-1].intercept_.size
    if isinstance(model, KNeighborsClassifier):
        return inputs.size
    if isinstance(model, DummyClassifier):
        return model.class_prior_.size
    if isinstance(model, DummyRegressor):
        return model.constant_.size
    return model.coef_.size + np.size(model.intercept_) if hasattr(model, "coef_") else None
