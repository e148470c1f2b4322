"""The registry: the short names that a config can use.

A config names a model, data set, objective, optimizer, schedule, adapter, reward, baseline, metric or task by
its short name. A file can never name an import path. The import paths are listed here, and each is imported
only when a run needs it. Your own classes are added by `experiments.config.own_code`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from experiments.config.messages import nearest, show
from experiments.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A registered component."""

    target: Callable[..., Any] | str | None
    """The class, or its import path as `"module:Class"`; `None` if the component is built from its schema, as
    `lit_modules.optim.optimizers` does for optimizers."""
    schema: type | str  # the dataclass of its config section, or its import path
    help: str  # a description in one line
    has_schema: bool = True
    """`False` for an own class that came without a schema: the keywords of its signature are its settings."""


def _model(module: str, name: str, help: str) -> Entry:
    return Entry(
        target=f"lit_modules.{module}:{name}",
        schema=f"lit_modules.configs.{module}:{name}Config",
        help=help,
    )


def _images(schema: str, help: str) -> Entry:
    model = _model("image_classifier", "ImageClassifier", help)
    return replace(model, schema=f"lit_modules.configs.image_classifier:{schema}")


def _data(module: str, name: str, help: str) -> Entry:
    return Entry(
        target=f"datamodules.{module}:{name}DataModule",
        schema=f"datamodules.configs.{module}:{name}Config",
        help=help,
    )


def _objective(schema: str, help: str, name: str = "") -> Entry:
    return Entry(
        target=f"lit_modules.objective:{name or schema}",
        schema=f"lit_modules.configs.objective:{schema}Config",
        help=help,
    )


def _optim(schema: str, help: str) -> Entry:
    return Entry(target=None, schema=f"lit_modules.configs.optim:{schema}", help=help)


def _baseline(schema: str, help: str) -> Entry:
    return Entry(target=None, schema=f"experiments.config.baselines:{schema}", help=help)


def _metric(target: str, schema: str, help: str) -> Entry:
    return Entry(
        target=f"lit_modules.metrics.{target}", schema=f"lit_modules.configs.metrics:{schema}", help=help
    )


def _task(module: str, name: str, help: str) -> Entry:
    return Entry(
        target=f"experiments.steering.{module}:{name}",
        schema=f"experiments.config.steering_tasks:{name}Config",
        help=help,
    )


CATALOG: dict[str, dict[str, Entry]] = {
    "model": {
        "mlp": _images("MLPConfig", "A multilayer perceptron on flattened images."),
        "classic_cnn": _images("ClassicCNNConfig", "The two-convolution network of the MNIST example."),
        "residual_cnn": _images("ResidualCNNConfig", "A small residual convolutional network."),
        "vision_transformer": _images(
            "VisionTransformerConfig", "A transformer encoder on patches of an image."
        ),
        "contrastive_encoder": _model(
            "contrastive_encoder", "ContrastiveEncoder", "A residual CNN that learns images without labels."
        ),
        "table_classifier": replace(
            _model("table_classifier", "TableClassifier", "Logistic regression or an MLP on table rows."),
            schema="lit_modules.configs.table:TableClassifierConfig",
        ),
        "table_regression": replace(
            _model("table_regression", "TableRegression", "Linear regression or an MLP on table rows."),
            schema="lit_modules.configs.table:TableRegressionConfig",
        ),
        "two_layer_classifier": _model(
            "two_layer_classifier", "TwoLayerClassifier", "A two-layer network, by hand also in NumPy."
        ),
        "slope": _model("slope", "Slope", "The line y = w x, the first lesson on gradients."),
        "text_classifier": _model(
            "text_classifier", "TextClassifier", "A transformer encoder that classifies texts."
        ),
        "language_model": _model(
            "language_model", "LanguageModel", "A decoder-only transformer, from GPT-2 to Llama."
        ),
        "answer_model": _model(
            "answer_model", "AnswerModel", "A language model that answers prompts, trained also by rewards."
        ),
        "char_rnn": _model("char_rnn", "CharRNN", "An RNN, GRU or LSTM that reads characters."),
        "seq2seq": _model(
            "seq2seq", "Seq2Seq", "An encoder–decoder transformer from one sequence to another."
        ),
        "steering": _model(
            "steering", "Steering", "A two-layer network from a hidden state to its steering vector."
        ),
    },
    "data": {
        "mnist": _data("mnist", "MNIST", "Handwritten digits, 28×28, 60,000 + 10,000."),
        "fashion_mnist": _data("mnist", "FashionMNIST", "Articles of clothing in MNIST's format."),
        "digits": _data("mnist", "Digits", "scikit-learn's 1,797 digits, 8×8; needs no network."),
        "image_folder": _data(
            "image_folder", "ImageFolder", "Your own images: a folder with a subfolder for each class."
        ),
        "table": _data(
            "table", "Table", "A table of numbers: a CSV or Parquet file, or a table of scikit-learn."
        ),
        "shakespeare": _data("token_corpus", "Shakespeare", "Shakespeare's plays, all 38."),
        "tiny_shakespeare": _data("token_corpus", "TinyShakespeare", "1,115,394 characters of Shakespeare."),
        "text": _data("token_corpus", "Text", "Your own text, a UTF-8 file or a folder."),
        "chat": _data(
            "chat_corpus", "Chat", "Conversations in a JSONL file; the assistant's tokens are learned."
        ),
        "pronunciation": _data(
            "pronunciation",
            "Pronunciation",
            "Spelling to phonemes: the CMU Pronouncing Dictionary, or your own.",
        ),
        "play_passages": _data(
            "play_passages",
            "PlayPassages",
            "Passages of Shakespeare's plays with their genres, split by play.",
        ),
        "pairs": _data("pairs", "Pairs", "Your own pairs of texts, a TSV or JSONL file."),
        "hello": _data("hello", "Hello", "One word as input and one as target, the first lesson on RNNs."),
        "digit_sequences": _data(
            "digit_sequences", "DigitSequences", "Strings of digits to reverse, copy or sort."
        ),
        "addition": _data("addition", "Addition", "Sums with worked answers, such as 47+85=12,13,132."),
        "steering_pairs": _data(
            "steering_pairs",
            "SteeringPairs",
            "Hidden states and their steering vectors, synthetic or from a file.",
        ),
    },
    "objective": {
        "cross_entropy": _objective("CrossEntropy", "Minus the log-probability of the true class."),
        "cross_entropy_from_probabilities": _objective(
            "CrossEntropyFromProbabilities", "Cross-entropy as notebooks write it: softmax, one-hot, log."
        ),
        "binary_cross_entropy": _objective(
            "BinaryCrossEntropy", "A sigmoid for each class; one output for two classes."
        ),
        "binary_cross_entropy_from_probabilities": _objective(
            "BinaryCrossEntropyFromProbabilities", "The same, from the sigmoid's result."
        ),
        "mse": _objective("MSE", "Mean squared error, of vectors or of probabilities.", "MeanSquaredError"),
        "mse_l1_cosine": _objective("MSEL1Cosine", "Squared and absolute error minus the cosine."),
        "kl": _objective("KL", "Divergence of the probabilities from the targets."),
        "focal": _objective("Focal", "Cross-entropy with less weight on easy examples."),
        "nt_xent": _objective("NTXent", "Find the other view of an image among all views (SimCLR)."),
        "info_nce": _objective("InfoNCE", "Find the second view of an image among second views."),
        "distillation": _objective("Distillation", "Divergence of the probabilities from a teacher's."),
        "grpo": replace(
            _objective("GRPO", "Rewards of sampled answers, compared within groups."),
            target="lit_modules.grpo:GRPO",
        ),
    },
    "optimizer": {
        "sgd": _optim("SGDConfig", "Stochastic gradient descent with momentum."),
        "adam": _optim("AdamConfig", "Adam."),
        "adamw": _optim("AdamWConfig", "Adam with decoupled weight decay."),
        "adadelta": _optim("AdadeltaConfig", "Adadelta."),
        "muon": _optim("MuonConfig", "Orthogonalised momentum for matrices, AdamW for the rest."),
    },
    "schedule": {
        "constant": _optim("ConstantConfig", "A constant learning rate."),
        "one_cycle": _optim("OneCycleConfig", "A rise, then a decay to almost zero."),
        "warmup_cosine": _optim("WarmupCosineConfig", "Linear warm-up, then cosine decay."),
        "warmup_linear": _optim("WarmupLinearConfig", "Linear warm-up, then linear decay."),
        "step_decay": _optim("StepDecayConfig", "Multiplication by gamma at fixed intervals of epochs."),
    },
    "adapter": {
        "lora": Entry(
            target=None,
            schema="lit_modules.configs.adapter:LoRAConfig",
            help="Low-rank updates of chosen linear layers.",
        ),
    },
    "reward": {
        "final_answer": Entry(
            target="lit_modules.rewards:final_answer",
            schema="lit_modules.configs.reward:FinalAnswerConfig",
            help="1 if the final answer is correct, else 0.",
        ),
    },
    "baseline": {
        "logistic_regression": _baseline("LogisticRegressionConfig", "Multinomial logistic regression."),
        "bag_of_words": _baseline("BagOfWordsConfig", "Logistic regression on word frequencies."),
        "linear_regression": _baseline(
            "LinearRegressionConfig", "Ridge regression; classes become one-hot targets."
        ),
        "k_nearest_neighbors": _baseline(
            "KNearestNeighborsConfig", "The majority vote of the k nearest neighbours."
        ),
        "majority_class": _baseline("MajorityClassConfig", "The most frequent class, for every input."),
        "mean_target": _baseline("MeanTargetConfig", "The mean of the training targets, for every input."),
        "grid_search": _baseline("GridSearchConfig", "The best slope of a line y = w x among given ones."),
    },
    "callback": {},
    "logger": {},
    "metric": {
        "macro_f1": _metric(
            "class_metrics:MacroF1", "MacroF1Config", "The mean F1 score of all classes, rare ones included."
        ),
        "auc": _metric(
            "ranking_metrics:OneVsRestAUC", "AUCConfig", "The mean area under the ROC curve of each class."
        ),
        "ece": _metric(
            "class_metrics:CalibrationError",
            "CalibrationErrorConfig",
            "The mean distance between confidence and accuracy of a classifier.",
        ),
    },
    "task": {
        "steering_extract": _task(
            "extract_task", "ExtractTask", "Read a prompt set with a frozen language model."
        ),
        "steering_conversations": _task(
            "conversations_task",
            "ConversationsTask",
            "Write the wanted answers of a prompt set as conversations.",
        ),
        "steering_choose": _task(
            "choose_task", "ChooseTask", "Choose the layers and factors of steering on validation prompts."
        ),
        "steering_test": _task(
            "compare_task", "CompareTask", "Compare the steering methods on test prompts."
        ),
        "cross_evaluation": Entry(
            target="experiments.studies.cross_evaluation:CrossEvaluation",
            schema="experiments.config.cross_evaluation:CrossEvaluationConfig",
            help="Test each earlier fit on the data of each earlier fit.",
        ),
        "probe": Entry(
            target="experiments.studies.probe:Probe",
            schema="experiments.config.probe:ProbeConfig",
            help="Classify images by the features of an earlier fit.",
        ),
        "steering_generate": _task(
            "generate_task", "GenerateTask", "Generate answers to test prompts with each steering method."
        ),
    },
}

DASHBOARDS: dict[str | None, str] = {
    None: "experiments.callbacks.dashboard:Dashboard",
    "classification": "experiments.callbacks.classification_dashboard:ClassificationDashboard",
    "seq2seq": "experiments.callbacks.seq2seq_dashboard:Seq2SeqDashboard",
    "language": "experiments.callbacks.language_dashboard:LanguageDashboard",
    "regression": "experiments.callbacks.regression_dashboard:RegressionDashboard",
}
"""The dashboard callback of a model, by the model's `dashboard` attribute. `None` shows curves only."""

OWN: set[tuple[str, str]] = set()
"""The kinds and names that `own_code.register` has added."""


def entry(kind: str, name: object) -> Entry:
    """Look up a short name.

    Raises:
        UserError: The name is unknown; the message lists the choices and suggests the nearest.
    """
    names = CATALOG[kind]
    if isinstance(name, str) and name in names:
        return names[name]
    choices = [f"choose from {', '.join(names)}"] if names else []
    if kind != "task":
        choices.append("name the file that registers it with --use FILE.py")
    raise UserError(f"unknown {kind} {show(name)}{nearest(str(name), names)}; {', or '.join(choices)}")


def schema(kind: str, name: str) -> type:
    """Return the schema of a component; the suite's own schemas import no torch."""
    return _resolve(entry(kind, name).schema)


def target(kind: str, name: str) -> Any:
    """Return the class of a component that has one."""
    place = entry(kind, name).target
    assert place is not None, f"a {kind} has no class"
    return _resolve(place)


def is_plain(model: str) -> bool:
    """Return whether a model is a plain LightningModule, with an objective and an optimizer of its own."""
    return not entry("model", model).has_schema


def objectives(model: str) -> tuple[str, ...]:
    """Return the names of the objectives that suit a model, the default first; empty if it takes none."""
    suited = tuple(getattr(schema("model", model), "objectives", ()))
    return (*suited, *(name for kind, name in sorted(OWN) if kind == "objective")) if suited else ()


def dashboard(name: str | None) -> Any:
    """Return the callback class of a dashboard."""
    return _resolve(DASHBOARDS[name])


def _resolve(place: Callable[..., Any] | str) -> Any:
    if not isinstance(place, str):
        return place
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def place(target: Any) -> str:
    """Return where a class is defined, as `"module:Class"`."""
    return target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"


def is_same(old: Any, new: Any) -> bool:
    """Return whether two classes are one: a notebook cell that runs twice defines its class twice."""
    return place(old) == place(new)
