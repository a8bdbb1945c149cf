"""Which latents are labelled with a factor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deft_lightning.evaluation.codes import Encoding, latent_labels

NAMES = ("shape", "posX")
FACTORS = np.random.default_rng(0).integers(4, size=(2000, 2))


def encoding(codes: list[np.ndarray], kl: list[float], factors: np.ndarray | None = FACTORS) -> Encoding:
    """2000 images with these `codes` and this `kl` per latent."""
    columns = np.stack(codes, axis=1).astype(np.float32)
    return Encoding(torch.arange(2000), columns, np.zeros_like(columns), factors, np.array(kl))


def test_a_label_is_the_factor_of_highest_nmi_and_its_value() -> None:
    shape, pos_x = FACTORS.T
    half = pos_x // 2  # 1 of the 2 bits of posX
    assert latent_labels(encoding([pos_x, -2.0 * shape, half], [3, 2, 1]), NAMES, 20) == [
        "posX 1.00",
        "shape 1.00",
        f"posX {0.5:.2f}",
    ]


@pytest.mark.parametrize(("kl", "label"), [(0.005, ""), (0.01, "posX 1.00")])
def test_a_latent_that_passes_no_information_has_no_label_though_its_nmi_is_high(kl: float, label: str) -> None:
    assert latent_labels(encoding([FACTORS[:, 1]], [kl]), NAMES, 20) == [label]


def test_a_latent_whose_highest_nmi_is_below_a_tenth_has_no_label() -> None:
    unrelated = np.random.default_rng(1).normal(size=2000)
    assert latent_labels(encoding([unrelated], [2.0]), NAMES, 20) == [""]


def test_there_are_no_labels_without_factors_or_where_none_varies() -> None:
    codes = [FACTORS[:, 0], FACTORS[:, 1]]
    for factors in (None, np.zeros_like(FACTORS)):
        assert latent_labels(encoding(codes, [1, 1], factors), NAMES, 20) == ["", ""]
