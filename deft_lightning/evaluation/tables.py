"""Codes and factors from files that any program may have written: tables of text, .npz and .h5."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deft_lightning.common import binning, delimited
from deft_lightning.common.errors import DeftError

SUFFIXES = (".csv", ".tsv", ".npz", ".h5")
MEAN, LOG_VARIANCE, FILE = "mean ", "log_variance ", "file"
"""How the columns of a CSV file begin that `python -m deft_lightning.encode` writes."""
FILES = "files"
"""What an array of file names is called: `numpy.savez` takes none called "file"."""


class Table(NamedTuple):
    """Codes and factors of N images.

    Attributes:
        codes: mean codes, [N, D].
        log_variance: of the posterior, [N, D], or None.
        factors: numbered values, [N, K].
        factor_names: [K].
        notices: sentences about factors that were changed.
    """

    codes: NDArray[np.float64]
    log_variance: NDArray[np.float64] | None
    factors: NDArray[np.int64]
    factor_names: tuple[str, ...]
    notices: tuple[str, ...]


def read(path: Path, factors: str) -> Table:
    """The table of the codes in the file `path` and of `factors`.

    Args:
        path: a .csv or .tsv file with a header, whose columns "mean ..." are the codes, or all columns of numbers that
            are not factors; or a .npz or .h5 file with the array "mean" or "codes" [N, D], and perhaps "log_variance".
        factors: another such file, with one column a factor or the array "factors" or "labels" [N, K]; a .npy file; or
            names of columns, or of an array, of the file of codes, separated by commas. Where both files have a column
            "file", or an array "files", rows are matched by it.

    Raises:
        DeftError: for files that are missing, damaged or do not fit each other.
    """
    content = _content(path)
    _require_names(content, path)
    source = Path(factors)
    if source.suffix.lower() in (*SUFFIXES, ".npy"):
        taken: list[str] = []
        of_factors = _content(source)
        _require_names(of_factors, source)
        columns = _factors_of(of_factors, source, content.get(FILE))
    else:
        taken = [name.strip() for name in factors.split(",")]
        columns = _named(content, taken, path)
    codes, log_variance = _codes(content, taken, path)
    if log_variance is not None and log_variance.shape != codes.shape:
        raise DeftError(
            f"{path} has codes of shape {list(codes.shape)} and log variances of shape {list(log_variance.shape)}: "
            "give one for every code, or leave them out."
        )
    for name, column in columns.items():
        if pd.isna(column).any():
            raise DeftError(f"factor {name} has missing values: give every image a value.")
    notices, numbered = [], []
    for name, column in columns.items():
        if len(column) != len(codes):
            raise DeftError(
                f"{path} has {len(codes):,} codes and the factor {name} {len(column):,} values: give one each."
            )
        continuous = binning.is_continuous(column)
        if continuous:
            notices.append(binning.notice(name, column))
        classes = binning.binned(column) if continuous else column
        numbered.append(np.unique(classes, return_inverse=True)[1].reshape(-1))
    return Table(codes, log_variance, np.stack(numbered, axis=1), tuple(columns), tuple(notices))


def _content(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a CSV file, or the arrays of a .npz, .h5 or .npy file, by name."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            text = path.read_text(encoding="utf-8-sig")
            while text.startswith("#"):  # comments may stand above the header
                text = text.partition("\n")[2]
            sign = delimited.delimiter(text, suffix)
            frame = pd.read_csv(io.StringIO(text), sep=sign)
            return {str(name): _cells(frame[name], delimited.decimal_comma(sign)) for name in frame}
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {_column(name): archive[name] for name in archive.files}
        if suffix == ".npy":
            return {"factors": np.load(path, allow_pickle=False)}
        if suffix == ".h5":
            with h5py.File(path) as file:
                arrays = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
                return {_column(name): _strings(item[()]) for name, item in arrays.items()}
    except FileNotFoundError as error:
        raise DeftError(f"there is no file {path}: give a .csv, .npz or .h5 file.") from error
    except Exception as error:  # pandas, numpy and h5py raise many types
        raise DeftError(
            f"{path} cannot be read as a {suffix} file: save it again; Python objects are not read."
        ) from error
    raise DeftError(f"{path} is no file of codes or factors: give a .csv, .npz or .h5 file.")


def _require_names(content: Mapping[str, NDArray[Any]], path: Path) -> None:
    if any(name.startswith("Unnamed: ") for name in content):  # pandas writes its row numbers so
        raise DeftError(f"{path} has a column without a name: name it, or leave it out (in pandas with index=False).")


def _cells(column: pd.Series, decimal_comma: bool) -> NDArray[Any]:
    """A column as numbers, if all its cells are, also with decimal commas; else as it is."""
    if decimal_comma and not pd.api.types.is_numeric_dtype(column):
        numbers = pd.to_numeric(column.astype(str).str.replace(",", "."), errors="coerce")
        if numbers.notna().all():
            return numbers.to_numpy()
    return column.to_numpy()


def _column(name: str) -> str:
    return FILE if name == FILES else name


def _strings(array: Any) -> NDArray[Any]:
    array = np.asarray(array)
    if array.dtype.kind != "O":
        return array
    return np.array([str(item, "utf-8") for item in array.ravel()]).reshape(array.shape)


def _codes(
    content: Mapping[str, NDArray[Any]], taken: list[str], path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    if path.suffix.lower() in (".csv", ".tsv"):
        others = [*taken, FILE]
        names = [name for name in content if name.startswith(MEAN) and name not in others]
        names = names or [n for n in content if n not in others and not n.startswith(LOG_VARIANCE)]
        uncertain = [name for name in content if name.startswith(LOG_VARIANCE)]
        codes = _matrix([content[name] for name in names], path, "codes")
        return codes, _matrix([content[name] for name in uncertain], path, "log variances") if uncertain else None
    for name in ("mean", "codes"):
        if name in content:
            log_variance = content.get("log_variance")
            return _array(content[name], path, name), (
                None if log_variance is None else _array(log_variance, path, "log_variance")
            )
    raise DeftError(f"{path} has no array mean or codes (it has {', '.join(content) or 'none'}): save one [N, D].")


def _matrix(columns: list[NDArray[Any]], path: Path, what: str) -> NDArray[np.float64]:
    if not columns:
        raise DeftError(f"{path} has no columns of {what}: add one for every latent.")
    return _array(np.stack([column.astype(object) for column in columns], axis=1), path, what)


def _array(values: NDArray[Any], path: Path, what: str) -> NDArray[np.float64]:
    try:
        array = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DeftError(f"{path} has {what} that are not numbers: leave other columns out.") from error
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
        raise DeftError(f"{path} has {what} of shape {list(array.shape)}: give a matrix [N, D] without missing values.")
    return array


def _named(content: Mapping[str, NDArray[Any]], names: list[str], path: Path) -> dict[str, NDArray[Any]]:
    if missing := [name for name in names if name not in content]:
        raise DeftError(f"{path} has no {missing[0]}: --factors is a file, or some of {', '.join(content)}.")
    columns: dict[str, NDArray[Any]] = {}
    for name in names:
        columns |= _columns(name, content[name], path)
    return columns


def _factors_of(content: Mapping[str, NDArray[Any]], path: Path, files: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    if path.suffix.lower() in (".csv", ".tsv"):
        columns = {name: column for name, column in content.items() if name != FILE}
    else:
        name = next((name for name in ("factors", "labels") if name in content), None)
        if name is None:
            raise DeftError(f"{path} has no array factors or labels (it has {', '.join(content)}): save one [N, K].")
        names = content.get("factor_names")
        columns = _columns("factor", content[name], path, None if names is None else list(map(str, names)))
    if FILE not in content or files is None:
        return columns
    place = {str(file): row for row, file in enumerate(content[FILE])}
    if len(place) < len(content[FILE]):
        raise DeftError(f"{path} has more than one row for the same file: keep one.")
    if missing := [str(file) for file in files if str(file) not in place]:
        raise DeftError(f"{path} has no row for {missing[0]}: give a row for every file with a code.")
    rows = [place[str(file)] for file in files]
    return {name: column[rows] for name, column in columns.items()}


def _columns(name: str, array: NDArray[Any], path: Path, names: list[str] | None = None) -> dict[str, NDArray[Any]]:
    """The columns of an array [N] or [N, K] by name: its own where it is one, else numbered."""
    if array.ndim == 1:
        return {name: array}
    if array.ndim != 2 or not array.shape[1] or (names is not None and len(names) != array.shape[1]):
        raise DeftError(f"{path} has {name} of shape {list(array.shape)}: give one column a factor, [N, K].")
    return {(names[k] if names else f"{name}_{k}"): array[:, k] for k in range(array.shape[1])}
