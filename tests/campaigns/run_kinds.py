"""Tiny runs of every kind: each takes about a second on one core."""

from pathlib import Path
from typing import Any

TEXT = "the cat sat on the mat; a dog ran to the café.\n" * 40

_TRAINER = {
    "max_epochs": 3,
    "accelerator": "cpu",
    "precision": "32-true",
    "log_every_n_steps": 2,
    "dashboard": False,
    "progress_bar": False,
}


def run_kinds(folder: Path, data: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of one run of each kind, by name.

    Args:
        folder: A folder for a small text and its tokens.
        data: The suite's data folder. Without the plays in it, there is no text classifier.
    """
    (folder / "cat.txt").write_text(TEXT, encoding="utf-8")
    kinds = {**_images(), **_sequences(folder), **_several_fits()}
    if not (data / "shakespeare").is_dir():
        del kinds["text_classifier"]
    else:
        kinds["text_classifier"]["data"]["root"] = str(data.resolve())
    return {name: {"name": name, **settings} for name, settings in kinds.items()}


def _run(model: dict[str, Any], data: dict[str, Any], **more: Any) -> dict[str, Any]:
    trainer = {**_TRAINER, **more.pop("trainer", {})}
    optimizer = {"name": "adamw", "lr": 0.01}
    return {"model": model, "data": data, "optimizer": optimizer, **more, "trainer": trainer}


_DIGITS = {"name": "digits", "batch_size": 100, "eval_batch_size": 100}
_MLP = {"name": "mlp", "hidden": [8], "norm": "batch_norm", "dropout": 0.1}
_NEVER_BETTER = {"optimizer": {"name": "sgd", "lr": 1e-30}, "schedule": {"name": "constant"}}


def _images() -> dict[str, dict[str, Any]]:
    augmented = {**_DIGITS, "augment": {"shift": 1, "rotation": 10, "erase": 2}}
    return {
        "mlp": _run(
            _MLP,
            augmented,
            schedule={"name": "one_cycle"},
            trainer={"ema_decay": 0.9, "gradient_clip_norm": 0.1},
        ),
        "cnn_with_dashboard": _run(
            {"name": "residual_cnn", "widths": [4], "blocks": [1]},
            augmented,
            trainer={"dashboard": True, "check_val_every_n_epoch": 2, "checkpoint_every_n_steps": 4},
        ),
        "accumulation": _run(
            _MLP,
            _DIGITS,
            trainer={
                "accumulate_grad_batches": 3,
                "check_val_every_n_steps": 2,
                "checkpoint_every_n_steps": 1,
            },
        ),
        "early_stopping": _run(
            _MLP,
            _DIGITS,
            **_NEVER_BETTER,
            trainer={
                "early_stopping_patience": 2,
                "max_epochs": 9,
                "monitor": "val/accuracy",
                "monitor_mode": "max",
            },
        ),
        "early_stopping_within_an_epoch": _run(
            {**_MLP, "norm": "none"},
            _DIGITS,
            **_NEVER_BETTER,
            trainer={
                "early_stopping_patience": 3,
                "check_val_every_n_steps": 5,
                "monitor": "val/accuracy",
                "monitor_mode": "max",
            },
        ),
        "max_steps_within_an_epoch": _run(
            _MLP,
            _DIGITS,
            trainer={"max_epochs": None, "max_steps": 25, "ema_decay": 0.9, "checkpoint_every_n_steps": 4},
        ),
        "minutes": _run(
            _MLP,
            _DIGITS,
            schedule={"name": "constant"},
            trainer={
                "max_epochs": 1000,
                "max_minutes": 0.02,
                "check_val_every_n_steps": 10,
                "checkpoint_every_n_steps": 7,
            },
        ),
    }


def _sequences(folder: Path) -> dict[str, dict[str, Any]]:
    text = {
        "name": "text",
        "path": str(folder / "cat.txt"),
        "root": str(folder / "data"),
        "context_length": 16,
        "batch_size": 8,
        "val_fraction": 0.1,
        "test_fraction": 0.15,
    }
    return {
        "character_rnn": _run(
            {"name": "char_rnn", "cell": "gru", "hidden": 8, "embedding": 4, "carry_state": True},
            {**text, "sampling": "sequential"},
            trainer={"checkpoint_every_n_steps": 3},
        ),
        "language_model": _run(
            {"name": "language_model", "depth": 1, "width": 16, "num_heads": 2, "position": "rotary"},
            {**text, "steps_per_epoch": 6, "tokenizer": {"kind": "bpe", "vocab_size": 270}},
            optimizer={"name": "muon", "lr": 0.02, "adamw_lr": 0.01},
            schedule={"name": "warmup_cosine"},
            trainer={"dashboard": True, "checkpoint_every_n_steps": 4},
        ),
        "seq2seq": _run(
            {"name": "seq2seq", "depth": 1, "width": 16, "num_heads": 2, "dropout": 0.1},
            {
                "name": "digit_sequences",
                "max_length": 5,
                "train_size": 200,
                "val_size": 30,
                "test_size": 30,
                "batch_size": 25,
            },
            trainer={"max_epochs": 2, "monitor": "val/sequence_error_rate"},
        ),
        "rewards": _run(
            {"name": "answer_model", "depth": 1, "width": 16, "num_heads": 2, "test_samples": 2},
            {
                "name": "addition",
                "max_digits": 2,
                "train_size": 60,
                "val_size": 10,
                "test_size": 10,
                "longer_size": 5,
                "batch_size": 5,
            },
            objective={"name": "grpo", "group_size": 3, "inner_epochs": 3, "kl_weight": 0.1},
            trainer={
                "max_epochs": 2,
                "accumulate_grad_batches": 2,
                "checkpoint_every_n_steps": 1,
                "monitor": "val/exact_match",
                "monitor_mode": "max",
            },
        ),
        "text_classifier": _run(
            {"name": "text_classifier", "depth": 1, "width": 8, "num_heads": 1, "token_dropout": 0.3},
            {"name": "play_passages", "passage_words": 1000, "batch_size": 64},
            trainer={"max_epochs": 2, "limit_train_batches": 8},
        ),
        "steering": _run(
            {"name": "steering", "hidden": 16, "activation": "relu"},
            {"name": "steering_pairs", "width": 16, "size": 300, "val_size": 50, "batch_size": 25},
            trainer={"ema_decay": 0.8},
        ),
    }


def _several_fits() -> dict[str, dict[str, Any]]:
    return {
        "stages": _run(
            _MLP,
            _DIGITS,
            trainer={"max_epochs": 2},
            stages={"first": {}, "second": {"model.init_from": "first", "data.augment.shift": 1}},
        ),
        "study": _run(
            _MLP,
            _DIGITS,
            trainer={"max_epochs": 2, "ema_decay": 0.9},
            variants={"plain": {}, "shifted": {"data.augment.shift": 1}},
            baselines={"logistic_regression": {}},
        ),
        "sweep": _run(
            _MLP,
            _DIGITS,
            trainer={"max_epochs": 2},
            sweep={"optimizer.lr": [0.01, 0.02, 0.03], "jobs": 2, "prune": False},
        ),
    }
