"""What metrics read besides the scored table: of a model on its images, or of a table of codes from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deft_lightning import metrics
from deft_lightning.common.seeding import Stream, generator
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.evaluation.codes import Encoding, encode
from deft_lightning.evaluation.scores import Scored, Settings, score
from deft_lightning.model.module import DEFT

VOTE_SIZE = 64
"""Points, or pairs of points, in a batch with one factor fixed."""


def sample_tables(data: FactorDataModule, settings: Settings) -> tuple[Tensor, Tensor]:
    """Indices of the images of the scored table and of the test table, which share none if the data have enough."""
    count = data.scored_size
    points = min(settings.num_points, count)
    if points + settings.num_test <= count:
        rows = data.sample(points + settings.num_test)  # its first rows are those of data.sample(points)
        return rows[:points], rows[points:]
    return data.sample(points), data.sample(min(settings.num_test, count), seed=data.seed + 1)


def score_model(
    names: Sequence[str], settings: Settings, encoding: Encoding, module: DEFT, data: FactorDataModule
) -> Scored:
    """Score `module` on the images of `data`; `encoding` is the scored table, the first of `sample_tables`."""
    return score(names, settings, encoding.codes, encoding.factors, ModelSource(module, data, settings))


def score_codes(names: Sequence[str], settings: Settings, codes: Any, factors: Any) -> Scored:
    """Score codes [N, D] with factors [N, K] from any model: a part of the rows, another is the test table.

    Rows are those of `sample_rows`.
    """
    rows, test_rows = sample_rows(len(codes), settings)
    return score(names, settings, codes[rows], factors[rows], RowSource(codes, factors, test_rows))


def sample_rows(count: int, settings: Settings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the scored table and of the test table, of a table of `count` rows, drawn by `settings.seed`.

    At most `num_points` are scored, and at most `num_test` or a third are tested.
    """
    order = np.random.default_rng(settings.seed).permutation(count)
    tested = min(settings.num_test, count // 3)
    return order[tested : tested + settings.num_points], order[:tested]


@dataclass(frozen=True)
class RowSource:
    """Codes [N, D] and factors [N, K] of images that cannot be encoded again; `test_rows` are those for tests."""

    codes: NDArray[Any]
    factors: NDArray[np.int64]
    test_rows: NDArray[np.int64]

    def test_table(self) -> tuple[Any, Any]:
        return self.codes[self.test_rows], self.factors[self.test_rows]

    def score_batches(self, name: str, settings: Settings) -> float:
        train, evaluation = settings.votes
        draw = metrics.batches_of_rows if name == "factor_vae" else metrics.pairs_of_rows
        rows, fixed = draw(self.factors, train + evaluation, VOTE_SIZE, settings.seed)
        codes = self.codes[rows]
        if name == "factor_vae":
            return float(metrics.factor_vae_of_batches(codes, fixed, self.codes, train).eval)
        return float(metrics.beta_vae_of_batches(codes, fixed, train).eval)


@dataclass(frozen=True)
class ModelSource:
    """A model and the images that it can encode."""

    module: DEFT
    data: FactorDataModule
    settings: Settings

    def test_table(self) -> tuple[Any, Any]:
        test = encode(self.module, self.data, sample_tables(self.data, self.settings)[1])
        return test.codes, test.factors

    def score_batches(self, name: str, settings: Settings) -> float:
        """Of images drawn from the grid of factors, or of `_rows` where these form no grid."""
        space = self.data.dataset.space
        if space is None or self.data.split is not None:
            table = encode(self.module, self.data, self._rows())
            assert table.factors is not None  # asked for labelled data only
            return RowSource(table.codes, table.factors, np.arange(0)).score_batches(name, settings)
        train, evaluation = settings.votes
        options = {"seed": settings.seed, "batch_size": VOTE_SIZE, "num_train": train, "num_eval": evaluation}
        function: Any = metrics.factor_vae_score if name == "factor_vae" else metrics.beta_vae_score
        return float(function(self._encode_factors(settings.seed), space.factor_sizes, **options).eval)

    def _rows(self) -> Tensor:
        """Indices of all images that are scored; of images that are read one at a time, those of both tables."""
        if self.data.dataset.reader is not None:
            return torch.cat(sample_tables(self.data, self.settings)).unique()
        split = self.data.split
        return torch.arange(len(self.data.dataset)) if split is None else split.held_out

    def _encode_factors(self, seed: int) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
        """A function from factor values [N, K] to mean codes [N, D], which draws new nuisances in every call."""
        space = self.data.dataset.space
        assert space is not None
        nuisance = generator(seed, Stream.EVALUATION, 7)
        calls = iter(range(2**31))

        def encode_factors(values: NDArray[np.int64]) -> NDArray[Any]:
            indices = space.indices(torch.as_tensor(values), nuisance)
            return encode(self.module, self.data, indices, seed=seed + next(calls)).codes

        return encode_factors
