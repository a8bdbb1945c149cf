"""The NMI matrix, latents x factors, over training: as numbers and as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from deft_lightning.common import results
from deft_lightning.evaluation.codes import codes_now, data_of
from deft_lightning.metrics import factor_entropy, max_nmi, nmi
from deft_lightning.metrics.mutual_information import gap
from deft_lightning.model.module import DEFT
from deft_lightning.training.callbacks import figures
from deft_lightning.training.callbacks._common import finished_stage, log_image, log_numbers, save_figure, scaled_epoch


class NMIMatrix(pl.Callback):
    """Logs NMI(z_j; v_k), max-1 and max-2 NMI (Eq. 5) every epoch, or every `every_n_steps` steps.

    Computed on `num_points` images with `bins` bins a latent, and kept in results.json by step. Does nothing for a
    data set without labels.
    """

    def __init__(self, every_n_steps: int | None = None, num_points: int = 10_000, bins: int = 20) -> None:
        self.every_n_steps, self.num_points, self.bins = every_n_steps, num_points, bins

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the matrix where a multiple of the period, or the end of a stage, was reached."""
        every = self.every_n_steps or scaled_epoch(cast(DEFT, pl_module))
        due = trainer.global_step % every == 0 or finished_stage(pl_module) is not None
        data = data_of(trainer)
        names = data.dataset.factor_names
        if not due or not names or not trainer.is_global_zero:
            return
        table = codes_now(trainer, self.num_points)
        assert table.factors is not None  # there are factor names
        matrix = nmi(table.codes, table.factors, self.bins)  # [D, K]
        first, second = max_nmi(matrix, 1), max_nmi(matrix, 2)  # [K]
        mig = gap(matrix, factor_entropy(table.factors)).score
        numbers = {"nmi/mig": mig}
        for k, name in enumerate(names):
            numbers |= {f"nmi/max1/{name}": first[k], f"nmi/max2/{name}": second[k]}
            numbers |= {f"nmi/latent_{j:02d}/{name}": row[k] for j, row in enumerate(matrix)}
        log_numbers(trainer, {key: float(value) for key, value in numbers.items()})
        record: dict[str, Any] = {
            "mig": round(mig, 4),
            "max1": _by_name(names, first),
            "max2": _by_name(names, second),
            "first_latent": _by_name(names, matrix[0]),
        }
        if "train/loss" in trainer.callback_metrics:
            record["loss"] = round(float(trainer.callback_metrics["train/loss"]), 3)
        results.update(trainer.default_root_dir, history={"nmi": {str(trainer.global_step): record}})
        figure = figures.nmi_heat_map(matrix, names, f"step {trainer.global_step:,}")
        log_image(trainer, "nmi/matrix", save_figure(figure, trainer, f"nmi_step_{trainer.global_step:07d}"))


def _by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(names, np.round(values, 4).tolist(), strict=True))
