"""UDR against a reference implementation, closed forms on orthogonal designs, invariances; invalid input."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import udr

GOLDEN = Path(__file__).with_name("golden_data")
GRID = np.array(list(product(range(5), repeat=3)), dtype=float)  # uncorrelated columns
KL = np.ones(3)


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_agrees_with_the_reference(method) -> None:
    arrays = np.load(GOLDEN / "representations.npz")
    reference = json.loads((GOLDEN / "reference_scores.json").read_text())["udr"][method]
    codes, kl = ([arrays[f"udr/{name}_{run}"] for run in range(4)] for name in ("codes", "kl"))
    result = udr(codes, kl, method)
    np.testing.assert_allclose(result.pairwise, reference["pairwise"], atol=1e-6)
    np.testing.assert_allclose(result.scores, reference["model_scores"], atol=1e-6)


@pytest.mark.parametrize(("method", "best"), [("spearman", 1.0), ("lasso", 0.9)])
def test_runs_that_agree_up_to_order_sign_and_scale_are_best(method, best) -> None:
    other = GRID[:, [2, 0, 1]] * [-3.0, 0.5, 2.0] + 7
    result = udr([GRID, other, GRID], [KL, KL, KL], method)
    np.testing.assert_allclose(result.scores, best, atol=1e-6)


def test_a_rotated_run_by_hand() -> None:
    """At 45 degrees both coefficients are 1 / sqrt(2) - 0.1 (the penalty); max^2 / sum is half of that."""
    planar = GRID[:, :2]
    rotated = planar @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    result = udr([planar, rotated], [KL[:2], KL[:2]], "lasso")
    np.testing.assert_allclose(result.scores, (np.sqrt(0.5) - 0.1) / 2, atol=1e-4)  # tolerance of the solver


def test_duplicated_latents_are_punished() -> None:
    """Each latent of one run has two copies in the other: rows score 1, columns 1 / 2."""
    result = udr([GRID, np.repeat(GRID, 2, axis=1)], [KL, np.ones(6)], "spearman")
    np.testing.assert_allclose(result.scores, (1 + 1 / 2) / 2)


def test_runs_of_independent_noise_approach_one_over_latents() -> None:
    random = np.random.default_rng(0)
    runs = [random.normal(size=(200, 400, 1))[:, :, 0] for _ in range(2)]
    assert (udr(runs, [np.ones(400)] * 2, "spearman").scores < 0.02).all()


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_latents_without_kl_and_dead_latents_do_not_matter(method) -> None:
    noise = np.random.default_rng(0).normal(size=(125, 1))
    plain = udr([GRID, GRID[:, ::-1]], [KL, KL], method)
    with_noise = udr([np.hstack([GRID, noise]), GRID[:, ::-1]], [[1, 1, 1, 0.01], KL], method)
    np.testing.assert_allclose(with_noise.pairwise, plain.pairwise)
    dead = udr([np.hstack([GRID, np.full((125, 1), 0.1)]), GRID], [np.ones(4), KL], method)
    assert np.isfinite(dead.pairwise).all()
    collapsed = udr([np.zeros((125, 3)), GRID, GRID], [np.zeros(3), KL, KL], method)
    np.testing.assert_allclose(collapsed.pairwise[0], 0)
    assert collapsed.scores[0] == 0


def test_one_latent_and_torch() -> None:
    one = torch.arange(10.0)[:, None]
    assert udr([one, -one], [torch.ones(1), torch.ones(1)]).scores == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize(
    ("codes", "kl", "method", "sentence"),
    [
        ([GRID], [KL], "lasso", "pass both for two runs or more"),
        ([GRID, GRID], [KL], "lasso", "codes of 2 runs and the KL of 1"),
        ([GRID, GRID[:9]], [KL, KL], "lasso", "encode the same points"),
        ([GRID, GRID], [KL, KL[:2]], "lasso", "3 latents and the KL of 2"),
        ([GRID, GRID * np.nan], [KL, KL], "lasso", "NaN"),
        ([GRID, GRID], [KL, KL * np.nan], "lasso", "the KL of a run is NaN"),
        ([GRID, GRID], [KL, KL], "ridge", "method is 'ridge'"),
    ],
)
def test_invalid_input_is_one_sentence(codes, kl, method, sentence) -> None:
    with pytest.raises(DeftError, match=sentence):
        udr(codes, kl, method)
