"""Synthetic representations and their scores by a public reference implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).with_name("golden_data")
CASES = ("axis", "rotated", "dead")
PARTS = ("codes_train", "factors_train", "codes_test", "factors_test")


def points(case: str) -> tuple[np.ndarray, ...]:
    """Codes [4000, 10], factors [4000, 5], test codes [2000, 10], test factors [2000, 5] of a case."""
    arrays = np.load(FOLDER / "representations.npz")
    return tuple(arrays[f"{case}/{part}"] for part in PARTS)


def reference(case: str) -> dict[str, Any]:
    """The scores of the reference implementation on a case."""
    return json.loads((FOLDER / "reference_scores.json").read_text())[case]


def grid(sizes: tuple[int, ...]) -> np.ndarray:
    """All combinations of factor values, [N, K]."""
    return np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))
