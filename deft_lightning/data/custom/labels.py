"""Factor labels of the user's own images, from an array or a CSV file, recoded to values that count from 0."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deft_lightning.common import binning, delimited
from deft_lightning.common.errors import DeftError
from deft_lightning.data.factors import FactorSpace


@dataclass(frozen=True)
class Labels:
    """Recoded factors of N images: values int64 [N, K], column k from 0 to sizes[k] - 1, and their K names."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    values: np.ndarray
    notices: tuple[str, ...] = ()

    def grid(self) -> tuple[FactorSpace, np.ndarray] | None:
        """The factor space and each image's index in it, int64 [N]; None unless every combination is there once."""
        # As floats, since the product of integer sizes may overflow.
        if not self.names or np.prod(self.sizes, dtype=float) != len(self.values):
            return None
        places = np.ravel_multi_index(tuple(self.values.T), self.sizes)
        return (FactorSpace(self.names, self.sizes), places) if len(np.unique(places)) == len(places) else None


def recode(columns: Sequence[np.ndarray], names: Sequence[str], where: str) -> Labels:
    """Labels from K columns of numbers or strings [N]; the values of each are numbered in sorted order.

    Columns of floats with many different values are continuous and binned, see `common.binning`, and columns with a
    single value are left out, both with a notice. `where` is the file, for messages. Raises `DeftError` when
    names are empty or repeated, or when a value is missing.
    """
    if len(set(names)) != len(names) or "" in names:
        raise DeftError(f"{where} has the factor names {', '.join(names)}: give distinct names that are not empty.")
    kept, notices = [], []
    for name, column in zip(names, columns, strict=True):
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise DeftError(f"{where} has missing or infinite values of factor {name}: give every image a value.")
        continuous = binning.is_continuous(column)
        if continuous:
            notices.append(f"{where}: {binning.notice(name, column)}")
        levels, codes = np.unique(binning.binned(column) if continuous else column, return_inverse=True)
        if len(levels) > 1:
            kept.append((name, len(levels), codes.reshape(-1)))
        else:
            notices.append(f"{where}: factor {name} has a single value and is left out.")
    values = np.stack([codes for *_, codes in kept], axis=1) if kept else np.zeros((len(columns[0]), 0))
    return Labels(
        tuple(name for name, *_ in kept), tuple(size for _, size, _ in kept), values.astype(np.int64), tuple(notices)
    )


def from_array(array: np.ndarray, names: Sequence[str] | None, count: int, where: str) -> Labels:
    """Labels from an array [N] or [N, K]; `names` default to factor_0, factor_1, ...

    `count` is the number of images, `where` the file, for messages. Raises `DeftError` when the array has another type,
    shape or length, or another number of names.
    """
    if array.dtype.kind not in "biufUS" or array.ndim not in (1, 2) or 0 in array.shape:
        raise DeftError(
            f"{where} has labels of {array.dtype} {list(array.shape)}: give numbers or strings [images, factors]."
        )
    table = array.reshape(len(array), -1)
    _check_length(len(table), count, where)
    if names is None:
        names = [f"factor_{place}" for place in range(table.shape[1])]
    if len(names) != table.shape[1]:
        raise DeftError(f"{where} has {len(names)} factor names for {table.shape[1]} factors: give one for each.")
    return recode(list(table.T), names, where)


def from_file(path: Path, count: int, files: Sequence[str] | None) -> Labels:
    """Labels of `count` images from a table whose header names the factors, or from an `.npy` array [N] or [N, K].

    A table is CSV with commas, semicolons or tabs, as its header has them, or .tsv. `files` are the paths of the images
    of a folder; a table then has them in its first column, `file`, in any order. Raises `DeftError` when the file is
    missing or damaged, or does not fit the images.
    """
    wanted = "give a .csv, .tsv or .npy file"
    if not path.is_file():
        raise DeftError(f"data.labels is {path}, which is not a file: {wanted}, or null.")
    if path.suffix.lower() == ".npy":
        return from_array(_npy(path), None, count, str(path))
    if path.suffix.lower() in (".csv", ".tsv"):
        return _from_table(path, count, files)
    raise DeftError(f"data.labels is {path}: {wanted}.")


def _npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
        if isinstance(array, np.ndarray):
            return array
        reason: Exception | None = None  # an .npz called .npy
    except Exception as error:  # damage has no common type
        reason = error
    raise DeftError(f"{path} is damaged or holds Python objects: save a plain array of labels.") from reason


def _from_table(path: Path, count: int, files: Sequence[str] | None) -> Labels:
    (header, *rows), sign = _table(path)
    if files is not None:
        if header[0] != "file":
            raise DeftError(
                f"{path} has {_short(header[0])} as its first column: put file there, the paths of the images."
            )
        rows = _in_order(rows, files, path)
        header, rows = header[1:], [row[1:] for row in rows]
        if not header:
            raise DeftError(f"{path} has no factors: add a column for each after the first, file.")
    _check_length(len(rows), count, str(path))
    comma = delimited.decimal_comma(sign)
    columns = [_numbers_or_strings([row[place] for row in rows], comma) for place in range(len(header))]
    return recode(columns, header, str(path))


def _table(path: Path) -> tuple[list[list[str]], str]:
    """The rows of a table, of equal lengths, its header first; and what separates its columns."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if re.search(r"[\x00-\x08\x0e-\x1f]", text):
            raise ValueError("it holds binary data")
        sign = delimited.delimiter(text, path.suffix)
        rows = delimited.rows(text, sign)
    except (OSError, ValueError, csv.Error) as error:
        reason = "it is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise DeftError(f"{path} cannot be read as CSV ({reason}): save it as UTF-8 text.") from error
    if len(rows) < 2:
        raise DeftError(f"{path} is too short: give a line of factor names and then one line for each image.")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(rows[0]) or "" in row:
            raise DeftError(
                f"{path} has {_short(row)} as row {number}: give a value in each of the {len(rows[0])} columns."
            )
    return rows, sign


def _in_order(rows: list[list[str]], files: Sequence[str], path: Path) -> list[list[str]]:
    """The rows in the order of `files`; every file must have exactly one."""
    named = {row[0]: row for row in rows}
    if len(named) < len(rows):
        repeated = next(row[0] for row in rows if named[row[0]] is not row)
        raise DeftError(f"{path} has more than one row for {repeated}: keep one.")
    if missing := [file for file in files if file not in named]:
        others = f" and {len(missing) - 1} other images" if len(missing) > 1 else ""
        raise DeftError(f"{path} has no row for {missing[0]}{others}: add one for each.")
    if unknown := sorted(named.keys() - set(files)):
        raise DeftError(f"{path} has a row for {unknown[0]}, which is not an image in the folder: remove it.")
    return [named[file] for file in files]


def _numbers_or_strings(cells: list[str], comma: bool) -> np.ndarray:
    """Numbers, if all cells are (with `comma`, also as 0,5), so that 10 comes after 9; else the strings."""
    with suppress(ValueError):
        return np.array(cells, float)
    if comma:
        with suppress(ValueError):
            return np.array([cell.replace(",", ".") for cell in cells], float)
    return np.array(cells)


def _short(value: object) -> str:
    """At most a line of a value, for messages."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_length(rows: int, count: int, where: str) -> None:
    if rows != count:
        raise DeftError(f"{where} has labels for {rows} images: give labels for all {count}, in their order.")
