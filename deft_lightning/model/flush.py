"""Flushes subnormal numbers to zero while a module is fitted, whoever calls `fit`."""

from __future__ import annotations

import pytorch_lightning as pl

from deft_lightning.common import subnormals


class FlushSubnormals(pl.Callback):
    """Flushes subnormal numbers to zero during `fit` and restores the setting afterwards; see `common.subnormals`."""

    def __init__(self) -> None:
        self._previous: bool | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Switch flushing on."""
        self._previous = subnormals.is_flushing()
        subnormals.flush(True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the previous setting."""
        if self._previous is not None:
            subnormals.flush(self._previous)
            self._previous = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the previous setting."""
        self.on_fit_end(trainer, pl_module)
