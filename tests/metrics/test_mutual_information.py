"""MI, NMI and MIG against closed forms, invariances, and the scores of a public reference; invalid input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import factor_entropy, max_nmi, mig, mutual_information, nmi
from deft_lightning.metrics.mutual_information import discretise
from tests.metrics.golden import CASES, grid, points, reference


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case: str) -> None:
    codes, factors, _, _ = points(case)
    expected = reference(case)
    np.testing.assert_allclose(mutual_information(codes, factors), expected["mutual_information"], atol=1e-6)
    np.testing.assert_allclose(factor_entropy(factors), expected["factor_entropy"], atol=1e-6)
    assert mig(codes, factors).score == pytest.approx(expected["mig"], abs=1e-6)


@pytest.mark.parametrize("bins", [1, 2, 7, 20, 30])
def test_bins_are_those_of_the_histogram_even_on_its_edges(bins: int) -> None:
    random = np.random.default_rng(0)
    columns = [random.normal(size=3000), random.integers(0, bins + 1, size=3000) / 7 - 0.3]
    edges = np.histogram_bin_edges(columns[0], bins)
    columns.append(
        random.choice(np.concatenate([edges, np.nextafter(edges[1:], -9), np.nextafter(edges[:-1], 9)]), 3000)
    )
    codes = np.stack(columns, axis=1)
    expected = [np.digitize(column, np.histogram_bin_edges(column, bins)[:-1]) - 1 for column in columns]
    np.testing.assert_array_equal(discretise(codes, bins), np.stack(expected, axis=1))


def test_a_nearly_constant_latent_has_bins() -> None:
    codes = np.where(np.arange(8) % 2, 1.0, np.nextafter(1.0, 2))[:, None]
    assert mutual_information(codes, np.arange(8)[:, None] % 2) == pytest.approx(np.log(2))


def test_factor_values_are_labels() -> None:
    """Scores depend neither on the labels of a factor's values nor on their type."""
    factors = grid((3, 6, 8))
    codes = factors @ np.random.default_rng(0).normal(size=(3, 4))
    expected = mutual_information(codes, factors)
    for renamed in (10**12 * factors - 5, (factors * 3 + 7).astype(np.uint8), factors / 3, factors.astype(str)):
        np.testing.assert_allclose(mutual_information(codes, renamed), expected, atol=1e-12)


def test_identity_codes_have_all_the_information() -> None:
    factors = grid((3, 6, 8))
    expected = np.diag(np.log([3, 6, 8]))
    np.testing.assert_allclose(mutual_information(factors, factors), expected, atol=1e-12)
    np.testing.assert_allclose(nmi(factors, factors), np.eye(3), atol=1e-12)
    assert mig(factors, factors).score == pytest.approx(1.0)


def test_duplicated_codes_have_no_gap() -> None:
    factors = grid((3, 6, 8))
    assert mig(np.repeat(factors, 2, axis=1), factors).score == pytest.approx(0.0)


def test_half_of_the_information_by_hand() -> None:
    """A latent that separates the upper from the lower half of 4 values has log 2 of log 4 nats."""
    factors = grid((4, 5))
    assert nmi(factors[:, :1] // 2, factors)[0] == pytest.approx([0.5, 0.0])


def test_permuted_and_flipped_latents_keep_the_scores() -> None:
    random = np.random.default_rng(0)
    factors = grid((3, 6, 10))
    codes = factors @ random.normal(size=(3, 5)) + random.normal(size=(180, 5))
    order = random.permutation(5)
    np.testing.assert_allclose(mutual_information(codes, factors)[order], mutual_information(codes[:, order], factors))
    # A sign change mirrors the bins: a value exactly on an edge would change its bin; there is none here.
    assert mig(-codes, factors).score == pytest.approx(mig(codes, factors).score, abs=1e-9)


def test_independent_noise_has_the_bias_of_a_finite_sample() -> None:
    """E[I] of independent variables is about (bins - 1)(values - 1) / 2N nats (Miller 1955)."""
    random = np.random.default_rng(1)
    factors = random.integers(0, 8, size=(10_000, 1))
    information = mutual_information(random.uniform(size=(10_000, 200)), factors)
    assert information.mean() == pytest.approx(19 * 7 / 20_000, rel=0.05)


def test_mig_of_independent_noise_is_the_gap_of_two_biases() -> None:
    """2N I is about chi-squared, so MIG is not 0 but the mean gap of the two largest of D draws, over 2N H."""
    random = np.random.default_rng(2)
    factors = random.integers(0, 8, size=(5_000, 150))
    drawn = np.sort(random.chisquare(19 * 7, size=(20_000, 10)), axis=1)
    expected = (drawn[:, -1] - drawn[:, -2]).mean() / (2 * 5_000 * np.log(8))
    scores = [mig(random.uniform(size=(5_000, 10)), factors[:, [k]]).score for k in range(150)]
    assert np.mean(scores) == pytest.approx(expected, rel=0.25)
    assert expected < 1e-3


def test_dead_latents_and_constant_factors_have_no_information() -> None:
    factors = grid((3, 6))
    codes = np.column_stack([factors[:, 0], np.zeros(18)])
    np.testing.assert_array_equal(mutual_information(codes, factors)[1], [0, 0])
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
    factors = grid((3, 6, 8))
    codes = factors.astype(np.float32)
    assert mig(torch.tensor(codes), torch.tensor(factors)).score == mig(codes, factors).score


@pytest.mark.parametrize(
    ("codes", "factors", "sentence"),
    [
        (np.full((4, 2), np.nan), np.zeros((4, 1)), "NaN or infinite"),
        (np.zeros(4), np.zeros((4, 1)), r"codes have shape \[4\]"),
        (np.zeros((4, 2)), np.zeros((4, 0)), r"factors have shape \[4, 0\]"),
        (np.zeros((4, 2)), np.full((4, 1), np.nan), "factors contain NaN"),
        (np.zeros((4, 2)), np.zeros((5, 1)), r"factors have shape \[5, 1\] and there are 4 codes"),
    ],
)
def test_invalid_input_is_one_sentence(codes, factors, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        mutual_information(codes, factors)
