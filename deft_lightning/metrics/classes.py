"""The metrics as `torchmetrics.Metric`: batches of codes and factors in, one score over all ranks out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics.active_units import active_units
from deft_lightning.metrics.dci import dci
from deft_lightning.metrics.explicitness import explicitness
from deft_lightning.metrics.infomec import infomec
from deft_lightning.metrics.irs import irs
from deft_lightning.metrics.modularity import modularity
from deft_lightning.metrics.mutual_information import mig
from deft_lightning.metrics.sap import sap
from deft_lightning.metrics.total_correlation import total_correlation


class TableMetric(Metric):
    """Any metric function of a table, over all batches of all ranks.

    `function`, given here or by a subclass, is `f(codes)`, `f(codes, factors)` or `f(codes, factors,
    codes_test, factors_test)`, the last scored on a third of the gathered rows, drawn by `seed`, after a fit
    on the others. Keyword arguments that the function has are its options, all others `torchmetrics.Metric`'s.

    `update(codes [B, D], factors [B, K])` keeps the rows (with `compute_on_cpu=True` in main memory);
    `compute()` gives a scalar tensor for a result with a `score`, and else a dict of scalar tensors, ready
    for `log_dict`; the function's own dataclass, matrices included, is then in `result`. Rows are gathered
    rank by rank, so that every rank computes the score of the same table; each rank needs one batch at least.
    Raises `DeftError` for batches that do not fit together, and as the function does.

    >>> metric = MIGMetric(bins=10)
    >>> metric.update(torch.tensor([[0.0], [1.0], [0.0], [1.0]]), torch.tensor([[0], [1], [0], [1]]))
    >>> metric.compute()
    tensor(1.)
    """

    function: Callable[..., Any]
    is_differentiable = False
    higher_is_better: bool | None = True
    full_state_update = False
    codes: list[Tensor]
    factors: list[Tensor]

    def __init__(self, function: Callable[..., Any] | None = None, seed: int = 0, **kwargs: Any) -> None:
        if function is None and not hasattr(self, "function"):
            raise DeftError("TableMetric has no function: give one, such as TableMetric(mig).")
        if function is not None:
            vars(self)["function"] = function  # before nn.Module is ready to set attributes itself
        parameters = inspect.signature(self.function).parameters
        self.options = {name: kwargs.pop(name) for name in list(kwargs) if name in parameters}
        super().__init__(**kwargs)
        if "seed" in parameters:
            self.options["seed"] = seed
        self.seed = seed
        self.tables = 1 + ("codes_test" in parameters)
        self.labelled = "factors" in parameters
        self.result: Any = None
        self.add_state("codes", default=[], dist_reduce_fx="cat")
        self.add_state("factors", default=[], dist_reduce_fx="cat")

    def update(self, codes: Tensor, factors: Tensor) -> None:
        """Add the codes [B, D] and factors [B, K] of a batch."""
        if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
            raise DeftError(
                f"{type(self).__name__} got codes of shape {list(codes.shape)} and factors of shape "
                f"{list(factors.shape)}: give [B, D] and [B, K], a row for each image of the batch."
            )
        self.codes.append(codes.detach() if codes.dtype == torch.float64 else codes.detach().float())
        self.factors.append(factors.detach())

    def compute(self) -> Tensor | dict[str, Tensor]:
        """The score of all rows so far: a scalar, or a dict of scalars by name."""
        if not len(self.codes):
            raise DeftError(f"{type(self).__name__} has no codes yet: call update with a batch first.")
        table = [_numpy(self.codes), _numpy(self.factors)][: 1 + self.labelled]
        self.result = self.function(*self._split(table), **self.options)
        scores = _scalars(self.result)
        tensors = {name: torch.tensor(value, dtype=torch.float32, device=self.device) for name, value in scores.items()}
        return tensors.get("score", tensors)

    def _split(self, table: list[np.ndarray]) -> list[np.ndarray]:
        if self.tables == 1:
            return table
        rows = np.random.default_rng(self.seed).permutation(len(table[0]))
        test = len(rows) // 3
        return [array[part] for part in (rows[test:], rows[:test]) for array in table]


def _numpy(state: list[Tensor] | Tensor) -> np.ndarray:
    return dim_zero_cat(state).cpu().numpy()


def _scalars(result: Any) -> dict[str, float]:
    parts = {field.name: getattr(result, field.name) for field in fields(result)} if is_dataclass(result) else {}
    parts = parts or {"score": result}
    scalars = {name: float(part) for name, part in parts.items() if isinstance(part, int | float | np.number)}
    if not scalars:
        raise DeftError("the function gives no score but an array: call it on the table itself.")
    return scalars


class MIGMetric(TableMetric):
    """`mig` over all batches and ranks."""

    function = staticmethod(mig)


class InfoMECMetric(TableMetric):
    """`infomec` over all batches and ranks: a dict of modularity, compactness and explicitness."""

    function = staticmethod(infomec)


class ActiveUnitsMetric(TableMetric):
    """`active_units` over all batches and ranks."""

    function = staticmethod(active_units)
    higher_is_better = None


class TotalCorrelationMetric(TableMetric):
    """`total_correlation` over all batches and ranks."""

    function = staticmethod(total_correlation)
    higher_is_better = False


class ModularityMetric(TableMetric):
    """`modularity` over all batches and ranks."""

    function = staticmethod(modularity)


class IRSMetric(TableMetric):
    """`irs` over all batches and ranks."""

    function = staticmethod(irs)


class DCIMetric(TableMetric):
    """`dci` over all batches and ranks, tested on a third of the rows: a dict of its four scores."""

    function = staticmethod(dci)


class SAPMetric(TableMetric):
    """`sap` over all batches and ranks, tested on a third of the rows."""

    function = staticmethod(sap)


class ExplicitnessMetric(TableMetric):
    """`explicitness` over all batches and ranks, tested on a third of the rows: a dict of train and test."""

    function = staticmethod(explicitness)
