"""Codes of images as a file: .csv, .npz or .h5.

    mean, log_variance   of every image, float32 [N, D]
    latent_names         [D], unique
    files                [N], the path of every image within its folder; absent where the images are no files
    run_id, data_digest  of the run whose model encoded them: its results.json has the same

In .npz all are arrays; in .h5 the last two are attributes. In .csv each image is a row with the columns `file` (if
there are files), `mean <latent>` and `log_variance <latent>` for every latent, `run_id` and `data_digest`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CodeFile:
    """What a file of codes holds, as above; `files` is None where the images are no files."""

    mean: NDArray[np.float32]
    log_variance: NDArray[np.float32]
    latent_names: Sequence[str]
    files: Sequence[str] | None
    run_id: str
    data_digest: str


def write(path: Path, kind: str, codes: CodeFile) -> None:
    """Write the codes in the format `kind`, one of `WRITERS`, whatever `path` is called.

    Raises `OSError` as the file system does.
    """
    WRITERS[kind](path, codes)


def _write_csv(path: Path, codes: CodeFile) -> None:
    files = [] if codes.files is None else ["file"]
    columns = [f"{part} {name}" for part in ("mean", "log_variance") for name in codes.latent_names]
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as stream:  # names of files are bytes
        writer = csv.writer(stream)
        writer.writerow([*files, *columns, "run_id", "data_digest"])
        for start in range(0, len(codes.mean), 1024):
            rows = slice(start, start + 1024)
            numbers = np.concatenate([codes.mean[rows], codes.log_variance[rows]], axis=1).astype(str)
            names = [[name] for name in codes.files[rows]] if codes.files is not None else [[]] * len(numbers)
            origin = [codes.run_id, codes.data_digest]
            writer.writerows([*name, *row, *origin] for name, row in zip(names, numbers.tolist(), strict=True))


def _write_npz(path: Path, codes: CodeFile) -> None:
    arrays: dict[str, Any] = {
        "mean": codes.mean,
        "log_variance": codes.log_variance,
        "latent_names": np.array(codes.latent_names, dtype=np.str_),
        "run_id": np.array(codes.run_id),
        "data_digest": np.array(codes.data_digest),
    }
    if codes.files is not None:
        arrays["files"] = np.array(codes.files, dtype=np.str_)
    with open(path, "wb") as stream:  # to a name, NumPy would append .npz
        np.savez(stream, **arrays)


def _write_hdf5(path: Path, codes: CodeFile) -> None:
    text = h5py.string_dtype()
    try:
        # HDF5 writes through Python's file object, so that a full disk raises an OSError with its reason.
        with open(path, "w+b") as stream, h5py.File(stream, "w") as file:
            file["mean"], file["log_variance"] = codes.mean, codes.log_variance
            file.create_dataset("latent_names", data=list(codes.latent_names), dtype=text)
            if codes.files is not None:
                file.create_dataset("files", data=[os.fsencode(name) for name in codes.files], dtype=text)
            file.attrs["run_id"], file.attrs["data_digest"] = codes.run_id, codes.data_digest
    except RuntimeError as error:  # h5py's, when it cannot close a file on a full disk
        raise OSError(str(error)) from error


WRITERS: dict[str, Callable[[Path, CodeFile], None]] = {
    ".csv": _write_csv,
    ".npz": _write_npz,
    ".h5": _write_hdf5,
}
"""How codes are written, by the ending of the file."""
