"""Predict the targets of table rows, or the output vectors of input vectors.

Shape letters: N rows, D features, T targets, K classes.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from datamodules.configs.table import TableConfig
from datamodules.info import LabelledTableInfo, TableInfo, VectorPairInfo
from datamodules.tables.cells import Cells, Line, read_cells, read_csv
from datamodules.tables.table_file import feature
from experiments.predict.prediction import Prediction, choice, ranked
from experiments.training.build import Restored

BATCH = 1024
"""Rows in one pass through the network."""


def predict_rows(model: Restored, files: Sequence[str]) -> Iterator[Prediction | Exception]:
    """Answer each row of CSV or Parquet files; `-` is CSV from standard input.

    A file or a row that cannot be read yields its error.
    """
    for file in files:
        try:
            cells = _read(model, file)
            columns = feature_columns(cells, _names(model.info), file)
        except (OSError, ValueError) as error:
            yield error
            continue
        for first in range(0, len(cells.lines), BATCH):
            lines = cells.lines[first : first + BATCH]
            rows = [_features(model, line, cells.names, columns) for line in lines]
            good = [row for row in rows if isinstance(row, list)]
            answers = iter(_answers(model, good) if good else ())
            for number, (line, row) in enumerate(zip(lines, rows, strict=True), start=first + 1):
                given: dict[str, object] = (
                    {"row": number} if len(files) == 1 else {"file": file, "row": number}
                )
                if isinstance(row, Exception):
                    yield row
                elif (answer := next(answers)).isfinite().all():
                    yield _prediction(model, given, answer)
                else:
                    yield ValueError(f"{line.place}: the model's answer overflows; is a value too large?")


def feature_columns(cells: Cells, names: Sequence[str], file: str) -> list[int]:
    """Return the index of the column of each feature.

    Columns are found by name. A table without names must have exactly the features, in their order.

    Raises:
        ValueError: A column is missing.
    """
    if set(names) <= set(cells.names):
        return [cells.names.index(name) for name in names]
    nameless = cells.names == [str(i + 1) for i in range(len(cells.names))]
    if nameless and len(cells.names) == len(names):
        return list(range(len(names)))
    missing = [name for name in names if name not in cells.names]
    shown = ", ".join(missing[:10]) + (", …" if len(missing) > 10 else "")
    raise ValueError(f"{file}: the model reads {len(names)} columns; the file lacks {shown}")


def _read(model: Restored, file: str) -> Cells:
    config = model.experiment.data.config
    is_table = isinstance(config, TableConfig)
    header, delimiter = (config.header, config.delimiter) if is_table else (None, ",")
    if file == "-":
        return read_csv(sys.stdin, "standard input", header=header, delimiter=delimiter)
    if not Path(file).exists():
        raise ValueError(
            f"{file}: no such file; expected a CSV or Parquet file with a row for each prediction"
        )
    return read_cells(Path(file), header=header, delimiter=delimiter)


def _names(info: TableInfo | LabelledTableInfo | VectorPairInfo) -> Sequence[str]:
    if isinstance(info, VectorPairInfo):
        return [str(i + 1) for i in range(math.prod(info.input_shape))]
    return info.feature_names


def _features(
    model: Restored, line: Line, names: Sequence[str], columns: list[int]
) -> list[float] | Exception:
    """Return the features of a row. A missing one is NaN if training replaced missing ones by means."""
    rule = getattr(model.experiment.data.config, "missing", "refuse")
    try:
        return [feature(line, names[i], i, rule) for i in columns]
    except ValueError as error:
        return error


def _answers(model: Restored, rows: list[list[float]]) -> Tensor:
    """Return logits (N, K), or numbers (N, T)."""
    info = model.info
    features = torch.tensor(rows, dtype=torch.float64)  # (N, D)
    if not isinstance(info, VectorPairInfo):
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (info.mean, info.std))
        features = torch.where(features.isnan(), mean, features)
        if getattr(model.experiment.data.config, "standardize", True):
            features = (features - mean) / std
    with torch.inference_mode():
        return model.module(features.float())


def _prediction(model: Restored, given: dict[str, object], answer: Tensor) -> Prediction:
    info = model.info
    shown = f"{given['file']}, row {given['row']}" if "file" in given else f"row {given['row']}"
    if isinstance(info, LabelledTableInfo):
        return choice(shown, given, ranked(answer, info.class_names))
    numbers = answer.double().tolist()
    names = info.target_names if isinstance(info, TableInfo) else [f"z{i + 1}" for i in range(len(numbers))]
    values = dict(zip(names, numbers, strict=True))
    first = ", ".join(f"{name} {value:.6g}" for name, value in list(values.items())[:10])
    more = f", … ({len(numbers)} numbers)" if len(numbers) > 10 else ""
    return Prediction([f"{shown}: {first}{more}"], {**given, **values}, [{**given, **values}])
