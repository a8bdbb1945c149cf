"""The losses of every step of anneal tests, collected without reading the device at each of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from deft_lightning.model.schedules.base import Timeline
from deft_lightning.thresholds.crossing import Curve

BLOCK = 100
"""Steps whose losses stay on the device until they are read together: each reading waits for the device."""


class LossLog:
    """Reconstruction error and KL per latent of every step, in nats, of one anneal test or of M trained together.

    `rows` are those of earlier steps, [n, 1 + D] or [n, M, 1 + D], the reconstruction error first. `finish_block` is
    applied to every block of rows when it is read, for example to average it over processes.
    """

    def __init__(self, rows: Tensor | None = None, finish_block: Callable[[Tensor], Tensor] | None = None) -> None:
        self.finish_block = finish_block
        self._rows = [] if rows is None else [rows.cpu()]
        self._block: list[Tensor] = []  # rows of the latest steps, on the device

    def append(self, reconstruction: Tensor, kl: Tensor) -> None:
        """Add the losses of a step: `reconstruction` [] or [M] and `kl` [D] or [M, D]."""
        self._block.append(torch.cat([reconstruction.unsqueeze(-1), kl], dim=-1))
        if len(self._block) >= BLOCK:
            self._read()

    @property
    def rows(self) -> Tensor:
        """The losses of all steps, on the CPU."""
        self._read()
        if self._rows:
            self._rows = [torch.cat(self._rows)]
        return self._rows[0] if self._rows else torch.empty(0)

    def curve(self, timeline: Timeline, member: int | None = None) -> Curve:
        """The curve of the test, or of the test `member` of several; `timeline` has its pressures."""
        rows = self.rows if member is None else self.rows[:, member]
        table = rows.double().numpy()  # [n, 1 + D]
        betas = np.array([timeline.at(step).pressure for step in range(len(table))])
        return Curve(np.arange(1, len(table) + 1), betas, table[:, 0], table[:, 1:])

    def _read(self) -> None:
        if self._block:
            block = torch.stack(self._block)
            self._block = []
            self._rows.append((self.finish_block or _unchanged)(block).cpu())


def _unchanged(block: Tensor) -> Tensor:
    return block
