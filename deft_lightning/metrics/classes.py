"""The metrics as `torchmetrics.Metric`: they collect batches of codes and factors and score them over all ranks."""

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
    """A metric function as a `torchmetrics.Metric`, computed on the rows of all batches and ranks.

    `update` stores the rows of a batch. `compute` returns a scalar tensor if the result of the function has a
    `score`, and otherwise a dict of scalar tensors, ready for `log_dict`. The full result, including matrices,
    is then in the attribute `result`. Rows are gathered from all ranks, so each rank computes the score of the
    same table; each rank needs at least one batch. The named subclasses set the function.

    Args:
        function: `f(codes)`, `f(codes, factors)` or `f(codes, factors, codes_test, factors_test)`. In the last
            case a third of the gathered rows is the test table.
        seed: seed that draws the test rows; also passed to a function with a `seed`.
        kwargs: the options of the function; all others are passed to `torchmetrics.Metric`, such as
            `compute_on_cpu=True`, which stores the rows in main memory.

    Raises:
        DeftError: without a function, for batches of wrong shape, for `compute` without a batch; and as the
            function does.

    Examples:
        >>> import torch
        >>> from deft_lightning.metrics import MIGMetric
        >>> metric = MIGMetric(bins=10)
        >>> metric.update(torch.tensor([[0.0], [1.0]]), torch.tensor([[0], [1]]))
        >>> metric.update(torch.tensor([[1.0], [0.0]]), torch.tensor([[1], [0]]))
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
            raise DeftError("TableMetric has no function: pass one, such as TableMetric(mig).")
        if function is not None:
            vars(self)["function"] = function  # nn.Module cannot set attributes before its __init__
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
                f"{list(factors.shape)}: pass [B, D] and [B, K], one row per image of the batch."
            )
        self.codes.append(codes.detach() if codes.dtype == torch.float64 else codes.detach().float())
        self.factors.append(factors.detach())

    def compute(self) -> Tensor | dict[str, Tensor]:
        """The score of all rows so far: a scalar tensor, or a dict of scalar tensors by name."""
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
        raise DeftError("the result of the function has no number: call the function on the table instead.")
    return scalars


class MIGMetric(TableMetric):
    """`mig` of all batches and ranks."""

    function = staticmethod(mig)


class InfoMECMetric(TableMetric):
    """`infomec` of all batches and ranks: a dict of modularity, compactness and explicitness.

    Examples:
        >>> import torch
        >>> from deft_lightning.metrics import InfoMECMetric
        >>> metric = InfoMECMetric(mi="binned")
        >>> factors = torch.cartesian_prod(torch.arange(2), torch.arange(3))
        >>> metric.update(factors.float(), factors)
        >>> {name: round(score.item(), 2) for name, score in metric.compute().items()}
        {'modularity': 1.0, 'compactness': 1.0, 'explicitness': 1.0}
    """

    function = staticmethod(infomec)


class ActiveUnitsMetric(TableMetric):
    """`active_units` of all batches and ranks."""

    function = staticmethod(active_units)
    higher_is_better = None


class TotalCorrelationMetric(TableMetric):
    """`total_correlation` of all batches and ranks."""

    function = staticmethod(total_correlation)
    higher_is_better = False


class ModularityMetric(TableMetric):
    """`modularity` of all batches and ranks."""

    function = staticmethod(modularity)


class IRSMetric(TableMetric):
    """`irs` of all batches and ranks."""

    function = staticmethod(irs)


class DCIMetric(TableMetric):
    """`dci` of all batches and ranks, tested on a third of the rows: a dict of its four scores."""

    function = staticmethod(dci)


class SAPMetric(TableMetric):
    """`sap` of all batches and ranks, tested on a third of the rows."""

    function = staticmethod(sap)


class ExplicitnessMetric(TableMetric):
    """`explicitness` of all batches and ranks, tested on a third of the rows: a dict of `train` and `test`."""

    function = staticmethod(explicitness)
