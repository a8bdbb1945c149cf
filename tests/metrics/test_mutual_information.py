"""MI, NMI and MIG against closed forms, invariances, faults, and the scores of a public reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deft_lightning.errors import DeftError
from deft_lightning.metrics import factor_entropy, max_nmi, mig, mutual_information, nmi

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def _grid(sizes: tuple[int, ...]) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))


@pytest.mark.parametrize("case", ["axis", "rotated", "dead"])
def test_agrees_with_the_reference(case: str) -> None:
    arrays = np.load(GOLDEN / "representations.npz")
    reference = json.loads((GOLDEN / "reference_scores.json").read_text())[case]
    codes, factors = arrays[f"{case}/codes_train"], arrays[f"{case}/factors_train"]
    np.testing.assert_allclose(mutual_information(codes, factors), reference["mutual_information"], atol=1e-6)
    np.testing.assert_allclose(factor_entropy(factors), reference["factor_entropy"], atol=1e-6)
    assert mig(codes, factors).score == pytest.approx(reference["mig"], abs=1e-6)


def test_identity_codes_have_all_the_information() -> None:
    factors = _grid((3, 6, 8))
    expected = np.diag(np.log([3, 6, 8]))
    np.testing.assert_allclose(mutual_information(factors, factors), expected, atol=1e-12)
    np.testing.assert_allclose(nmi(factors, factors), np.eye(3), atol=1e-12)
    assert mig(factors, factors).score == pytest.approx(1.0)


def test_duplicated_codes_have_no_gap() -> None:
    factors = _grid((3, 6, 8))
    assert mig(np.repeat(factors, 2, axis=1), factors).score == pytest.approx(0.0)


def test_half_of_the_information_by_hand() -> None:
    """A latent that tells the upper from the lower half of 4 values knows ln 2 of ln 4."""
    factors = _grid((4, 5))
    assert nmi(factors[:, :1] // 2, factors)[0] == pytest.approx([0.5, 0.0])


def test_permuted_and_flipped_latents_keep_the_scores() -> None:
    random = np.random.default_rng(0)
    factors = _grid((3, 6, 10))
    codes = factors @ random.normal(size=(3, 5)) + random.normal(size=(180, 5))
    order = random.permutation(5)
    np.testing.assert_allclose(mutual_information(codes, factors)[order], mutual_information(codes[:, order], factors))
    # Mirrored bins: a value that lies exactly on an edge may change its bin, and none does here.
    assert mig(-codes, factors).score == pytest.approx(mig(codes, factors).score, abs=1e-9)


def test_independent_noise_has_the_bias_of_a_finite_sample() -> None:
    """E[I] of independent variables is about (bins - 1)(values - 1) / 2N nats (Miller 1955)."""
    random = np.random.default_rng(1)
    factors = random.integers(0, 8, size=(10_000, 1))
    information = mutual_information(random.uniform(size=(10_000, 200)), factors)
    assert information.mean() == pytest.approx(19 * 7 / 20_000, rel=0.05)


def test_dead_latents_and_constant_factors_have_no_information() -> None:
    factors = _grid((3, 6))
    codes = np.column_stack([factors[:, 0], np.zeros(18)])
    np.testing.assert_allclose(mutual_information(codes, factors)[1], [0, 0], atol=1e-12)
    constant = np.column_stack([factors[:, 0], np.ones(18, dtype=int)])
    result = mig(codes, constant)
    assert result.score == pytest.approx(1.0)  # the mean is over the factor that varies
    assert not np.isnan(result.per_factor).any()
    assert mig(np.zeros((18, 2)), factors).score == 0
    assert mig(factors, np.zeros((18, 2), dtype=int)).score == 0


def test_fewer_samples_than_bins_and_one_latent() -> None:
    assert mutual_information([[0.0], [1.0]], [[0], [1]]) == pytest.approx(np.log(2))
    assert mig([[0.0], [1.0]], [[0], [1]]).score == pytest.approx(1.0)  # there is no second latent


def test_max_nmi_sorts_within_a_factor() -> None:
    matrix = np.array([[0.1, 0.9], [0.5, 0.2], [0.3, 0.4]])
    np.testing.assert_array_equal(max_nmi(matrix, 1), [0.5, 0.9])
    np.testing.assert_array_equal(max_nmi(matrix, 2), [0.3, 0.4])


def test_torch_and_numpy_give_the_same() -> None:
    factors = _grid((3, 6, 8))
    codes = factors.astype(np.float32)
    assert mig(torch.tensor(codes), torch.tensor(factors)).score == mig(codes, factors).score


@pytest.mark.parametrize(
    ("codes", "factors", "sentence"),
    [
        (np.full((4, 2), np.nan), np.zeros((4, 1)), "NaN or infinite"),
        (np.zeros(4), np.zeros((4, 1)), r"codes have shape \[4\]"),
        (np.zeros((4, 2)), np.zeros((5, 1)), r"factors have shape \[5, 1\] and there are 4 codes"),
    ],
)
def test_faults_are_one_sentence(codes, factors, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        mutual_information(codes, factors)
