"""The FactorVAE score against the reference, closed forms, a plain loop of votes, and degenerate encoders."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import batches_of_rows, factor_vae_of_batches, factor_vae_score
from deft_lightning.metrics.factor_vae import batch_variances
from tests.metrics.golden import CASES, points, reference

SIZES = (3, 6, 8)
FEW = {"num_train": 500, "num_eval": 500, "num_variance": 1000}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_reference(case: str) -> None:
    """The batches are rows of the table, because no encoder is available."""
    codes, factors, _, _ = points(case)
    rows, fixed = batches_of_rows(factors, 8000, 64, seed=0)
    result, expected = factor_vae_of_batches(codes[rows], fixed, codes, num_train=4000), reference(case)["factor_vae"]
    assert result.train == pytest.approx(expected["train_accuracy"], abs=0.03)
    assert result.eval == pytest.approx(expected["eval_accuracy"], abs=0.03)


def test_identity_duplicates_and_flips_are_perfect() -> None:
    for encode in (np.asarray, lambda v: np.hstack([v, v]), lambda v: -v[:, ::-1]):
        result = factor_vae_score(encode, SIZES, **FEW)
        assert (result.train, result.eval) == (1.0, 1.0)


def test_noise_has_the_accuracy_of_chance() -> None:
    random = np.random.default_rng(0)
    result = factor_vae_score(lambda v: random.normal(size=(len(v), 4)), (3, 6, 8, 5), num_train=4000, num_eval=4000)
    assert result.eval == pytest.approx(1 / 4, abs=0.03)


def test_a_single_latent_identifies_one_factor() -> None:
    """All votes go to the same latent, so 1 of K factors is identified."""
    result = factor_vae_score(lambda v: v[:, :1], SIZES, num_train=3000, num_eval=3000)
    assert result.eval == pytest.approx(1 / 3, abs=0.03)
    assert result.active == 1


def test_dead_and_weak_latents_never_vote() -> None:
    expected = factor_vae_score(np.asarray, SIZES, **FEW)
    padded = factor_vae_score(lambda v: np.column_stack([np.zeros(len(v)), v, 0.01 * v]), SIZES, **FEW)
    assert padded == expected
    weak = factor_vae_score(lambda v: 0.01 * v, SIZES, **FEW)
    assert (weak.train, weak.eval, weak.active) == (0.0, 0.0, 0)
    dead = factor_vae_score(lambda v: np.full((len(v), 2), 0.1), SIZES, prune_threshold=0.0, **FEW)
    assert (dead.eval, dead.active) == (0.0, 0)


def test_votes_equal_those_of_a_plain_loop() -> None:
    random = np.random.default_rng(0)
    codes, fixed = (
        random.normal(size=(300, 8, 4)) * random.uniform(0.5, 2, size=(300, 1, 4)),
        random.integers(3, size=300),
    )
    overall = random.normal(size=(100, 4)) * [1, 2, 3, 0.001]
    votes = np.zeros((2, 3, 3))
    for i in range(300):
        ratio = codes[i].var(axis=0, ddof=1)[:3] / overall.var(axis=0, ddof=1)[:3]
        votes[int(i >= 200), fixed[i], ratio.argmin()] += 1
    right = votes[1][votes[0].argmax(axis=0), range(3)].sum()
    result = factor_vae_of_batches(codes, fixed, overall, num_train=200)
    assert (result.train, result.eval) == (votes[0].max(axis=0).sum() / 200, right / 100)
    np.testing.assert_allclose(batch_variances(codes), codes.var(axis=1, ddof=1))


def test_small_variances_on_a_large_mean_are_exact() -> None:
    codes = 1e4 + 1e-4 * np.random.default_rng(0).normal(size=(5, 64, 3))
    np.testing.assert_allclose(batch_variances(codes), codes.var(axis=1, ddof=1), rtol=1e-6)
    single = (1 + 1e-3 * np.random.default_rng(0).normal(size=(5, 64, 3))).astype(np.float32)
    expected = single.astype(np.float64).var(axis=1, ddof=1)
    np.testing.assert_allclose(batch_variances(single), expected, rtol=1e-5)


def test_torch_encoders_seeds_and_large_calls() -> None:
    calls = []

    def encode(values: np.ndarray) -> torch.Tensor:
        calls.append(len(values))
        return torch.as_tensor(values).float() @ torch.ones(3, 2)

    first, second = (factor_vae_score(encode, SIZES, seed=1, **FEW) for _ in range(2))
    assert first == second
    assert len(calls) < 20
    assert factor_vae_score(encode, SIZES, seed=2, **FEW) != first


def test_invalid_input_is_one_sentence() -> None:
    with pytest.raises(DeftError, match="NaN or infinite"):
        factor_vae_score(lambda v: v * np.nan, SIZES, **FEW)
    with pytest.raises(DeftError, match=r"codes of shape \[8192\] for 8192 points"):
        factor_vae_score(lambda v: v[:, 0], SIZES, **FEW)
    with pytest.raises(DeftError, match="0 batches"):
        factor_vae_score(np.asarray, SIZES, num_train=0)
    codes, fixed = np.zeros((10, 4, 2)), np.zeros(10, dtype=int)
    with pytest.raises(DeftError, match="num_train is 10 of 10 batches"):
        factor_vae_of_batches(codes, fixed, codes[0], num_train=10)
    with pytest.raises(DeftError, match=r"fixed factors \[9\]"):
        factor_vae_of_batches(codes, fixed[:9], codes[0], num_train=5)
    with pytest.raises(DeftError, match="codes have 2 latents and codes_overall 3"):
        factor_vae_of_batches(codes, fixed, np.zeros((5, 3)), num_train=5)
