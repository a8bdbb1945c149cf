"""InfoMEC against closed forms (shares of information, a binary channel, overlapping uniforms); invalid input."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.feature_selection import mutual_info_classif

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import infomec
from deft_lightning.metrics.infomec import concentration

GRID = np.tile(np.array(list(product(range(2), range(3), range(4)))), (20, 1))  # enough repetitions for knn
ESTIMATORS = pytest.mark.parametrize("mi", ["knn", "binned"])


def binary_channel(flip: int, of: int) -> tuple[np.ndarray, np.ndarray]:
    """A code that differs from a balanced bit in exactly `flip` of `of` points, and the bit."""
    bit = np.repeat([0, 1], of)
    wrong = np.tile(np.arange(of) < flip, 2)
    return np.where(wrong, 1 - bit, bit)[:, None].astype(float), bit[:, None]


@ESTIMATORS
def test_one_latent_a_factor_is_perfect(mi) -> None:
    result = infomec(GRID, GRID, mi)
    np.testing.assert_allclose(result.nmi, np.eye(3), atol=1e-2 if mi == "knn" else 1e-9)
    assert result.modularity == pytest.approx(1, abs=1e-2)
    assert result.compactness == pytest.approx(1, abs=1e-2)
    assert result.explicitness > 0.98
    assert infomec(GRID, GRID, mi, continuous=True).explicitness == pytest.approx(1)


@ESTIMATORS
def test_order_sign_and_scale_of_all_latents_do_not_matter(mi) -> None:
    random = np.random.default_rng(0)
    codes = GRID @ random.normal(size=(3, 5)) + 0.1 * random.normal(size=(len(GRID), 5))
    plain, other = infomec(codes, GRID, mi), infomec(codes[:, ::-1] * -3, GRID, mi)
    for name in ("modularity", "compactness", "explicitness"):
        assert getattr(other, name) == pytest.approx(getattr(plain, name), abs=1e-3)
    np.testing.assert_allclose(other.nmi[::-1], plain.nmi, atol=1e-3)


def test_duplicated_latents_share_by_hand() -> None:
    """Each factor is encoded in 2 of 6 latents: (1/2 - 1/6) / (1 - 1/6) = 0.4; no latent is mixed."""
    result = infomec(np.repeat(GRID, 2, axis=1), GRID, "binned")
    assert result.compactness == pytest.approx(0.4)
    assert result.modularity == pytest.approx(1.0)


def test_a_latent_of_two_factors_by_hand() -> None:
    """A latent that encodes two of three factors: (1/2 - 1/3) / (1 - 1/3) = 1/4; the other latent is pure: 1."""
    codes = np.column_stack([GRID[:, 0] * 3 + GRID[:, 1], GRID[:, 2]])
    result = infomec(codes, GRID, "binned")
    assert result.modularity == pytest.approx((1 / 4 + 1) / 2)
    assert result.compactness == pytest.approx(1.0)


def test_explicitness_of_a_binary_channel_is_its_capacity() -> None:
    codes, bit = binary_channel(flip=1, of=10)
    capacity = 1 + (0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))
    assert infomec(codes, bit, "binned").explicitness == pytest.approx(capacity, abs=1e-5)
    assert infomec(codes, bit, "binned", continuous=True).explicitness == pytest.approx(0.8**2)


def test_explicitness_is_linear() -> None:
    """A code (v - mean)^2 carries information about v, but no linear predictor can use it."""
    values = np.tile(np.arange(5), 40)[:, None]
    bent = (values - 2.0) ** 2
    assert infomec(bent, values, "binned", continuous=True).explicitness == pytest.approx(0, abs=1e-9)
    assert infomec(values, values, "binned", continuous=True).explicitness == pytest.approx(1)


def test_nearest_neighbours_find_the_information_of_overlapping_uniforms() -> None:
    """z is uniform on [v/2, v/2 + 1]: half of the points determine v, the others carry no information: 1/2 bit."""
    random = np.random.default_rng(0)
    values = random.integers(0, 2, size=(4000, 1))
    codes = values / 2 + random.uniform(size=(4000, 1))
    assert infomec(codes, values, "knn").nmi[0, 0] == pytest.approx(0.5, abs=0.03)


def test_nearest_neighbours_follow_the_published_protocol() -> None:
    random = np.random.default_rng(0)
    codes = GRID @ random.normal(size=(3, 4)) + 0.3 * random.normal(size=(len(GRID), 4))
    result = infomec(codes, GRID, "knn")
    for j, k in product(range(4), range(3)):
        expected = mutual_info_classif(codes[:, [j]], GRID[:, k], n_neighbors=10, random_state=5)
        assert result.nmi[j, k] == pytest.approx(expected[0] / np.log(k + 2), abs=1e-3)


@ESTIMATORS
def test_noise_explains_nothing(mi) -> None:
    random = np.random.default_rng(0)
    result = infomec(random.normal(size=(len(GRID), 4)), GRID, mi)
    assert result.explicitness < 0.05
    assert result.nmi.max() < 0.3


def test_a_latent_without_information_is_left_out() -> None:
    result = infomec(GRID, GRID[:, :2], "binned")  # the third latent is independent of both factors
    assert result.active.all()
    assert result.modularity == pytest.approx(1.0)
    assert infomec(GRID[:, 2:], GRID[:, :2], "binned").modularity == 0


@ESTIMATORS
def test_dead_and_narrow_latents_do_not_count(mi) -> None:
    random = np.random.default_rng(0)
    narrow = 0.01 * random.uniform(size=(len(GRID), 1))
    padded = np.hstack([GRID, np.full((len(GRID), 2), 0.1), narrow])
    result, plain = infomec(padded, GRID, mi), infomec(GRID, GRID, mi)
    np.testing.assert_array_equal(result.active, [True] * 3 + [False] * 3)
    assert not result.nmi[3:5].any()
    assert result.modularity == pytest.approx(plain.modularity, abs=1e-2)
    assert result.compactness == pytest.approx(plain.compactness, abs=1e-2)
    dead = infomec(np.zeros((len(GRID), 3)), GRID, mi)
    assert (dead.modularity, dead.compactness, dead.explicitness) == (0, 0, 0)


@ESTIMATORS
def test_constant_factors_do_not_count(mi) -> None:
    factors = np.hstack([GRID, np.full((len(GRID), 1), 3)])
    result, plain = infomec(GRID, factors, mi), infomec(GRID, GRID, mi)
    assert not result.nmi[:, 3].any()
    for name in ("modularity", "compactness", "explicitness"):
        assert getattr(result, name) == pytest.approx(getattr(plain, name), abs=1e-3)
    nothing = infomec(GRID, np.zeros_like(GRID), mi)
    assert (nothing.modularity, nothing.compactness, nothing.explicitness) == (0, 0, 0)


@ESTIMATORS
@pytest.mark.parametrize("rows", [1, 2, 5, 12])
def test_tiny_tables_have_numbers(mi, rows) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = infomec(GRID[:rows], GRID[:rows], mi)
    assert np.isfinite([result.modularity, result.compactness, result.explicitness]).all()
    assert np.isfinite(result.nmi).all()


def test_concentration_runs_from_equal_shares_to_a_single_one() -> None:
    assert concentration(np.ones((3, 4)), axis=1) == pytest.approx(0)
    assert concentration(np.eye(4), axis=0) == pytest.approx(1)
    assert concentration(np.array([[1.0, 0], [0, 0]]), axis=1) == 1  # the empty row is left out
    assert concentration(np.ones((3, 1)), axis=1) == 1
    assert concentration(np.zeros((3, 2)), axis=1) == 0


def test_torch_and_numpy_give_the_same() -> None:
    assert infomec(torch.tensor(GRID), torch.tensor(GRID), "binned").explicitness == pytest.approx(
        infomec(GRID, GRID, "binned").explicitness
    )


def test_invalid_input_is_one_sentence() -> None:
    with pytest.raises(DeftError, match="NaN"):
        infomec(GRID * np.nan, GRID)
    with pytest.raises(DeftError, match="mi is 'exact': use"):
        infomec(GRID, GRID, "exact")  # type: ignore[arg-type]
