"""The NMI matrix, latents x factors, over training: numbers, heat maps and one figure of the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common import checks, results
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.metrics import factor_entropy, max_nmi, nmi
from deft_lightning.metrics.mutual_information import gap
from deft_lightning.model.module import DEFT
from deft_lightning.training import figures
from deft_lightning.training.callbacks.base import log_image, log_numbers, picture_loggers, scaled_epoch
from deft_lightning.training.callbacks.evaluation import EvaluationPart, Snapshot


class NMIMatrix(EvaluationPart):
    """Logs NMI(z_j; v_k), max-1 and max-2 NMI (Eq. 5) every epoch, or every `every_n_steps` steps.

    The numbers are kept in results.json by step. `heat_maps` says when a heat map is saved: at the end of every
    "stage", or at every "epoch" as well; loggers that take pictures get one every time. Max-1 and max-2 over training
    are drawn in figures/nmi.png (Fig. 2). Does nothing for a data set without labels. Raises `DeftError` for another
    `heat_maps`, or a period that is not above 0.
    """

    def __init__(self, every_n_steps: int | None = None, heat_maps: str = "stage") -> None:
        if every_n_steps is not None:
            checks.whole("callbacks.nmi_matrix.every_n_steps", every_n_steps, 1)
        self.every_n_steps = every_n_steps
        self._active = True
        self.heat_maps = checks.choice("callbacks.nmi_matrix.heat_maps", heat_maps, ("stage", "epoch"))

    def start(self, data: FactorDataModule) -> None:
        """See whether the data have labels."""
        self._active = bool(data.dataset.factor_names)

    def due(self, module: DEFT, stage: int | None) -> bool:
        period = self.every_n_steps or scaled_epoch(module)
        return self._active and (stage is not None or module.global_step % period == 0)

    def evaluate(self, snapshot: Snapshot) -> None:
        """Log the matrix and draw it."""
        names, encoding, trainer = snapshot.data.dataset.factor_names, snapshot.encoding, snapshot.trainer
        assert encoding.factors is not None  # without labels the part is never due
        matrix = nmi(encoding.codes, encoding.factors, snapshot.bins)  # [D, K]
        first, second = max_nmi(matrix, 1), max_nmi(matrix, 2)  # [K]
        mig = gap(matrix, factor_entropy(encoding.factors)).score
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
            "loss": round(float(snapshot.module.last_loss.total), 3),
        }
        results.update(snapshot.folder, history={"nmi": {str(snapshot.step): record}})
        self._draw(snapshot, matrix, names)

    def _draw(self, snapshot: Snapshot, matrix: NDArray[np.float64], names: Sequence[str]) -> None:
        saved = snapshot.stage is not None or self.heat_maps == "epoch"
        if saved or picture_loggers(snapshot.trainer):
            heat_map = figures.nmi_heat_map(matrix, names, f"step {snapshot.step:,}")
            if saved:
                figures.save_figure(heat_map, snapshot.folder, f"nmi_step_{snapshot.step:07d}")
            if picture_loggers(snapshot.trainer):
                log_image(snapshot.trainer, "nmi/matrix", figures.as_image(heat_map))
        if snapshot.stage is not None:
            history = results.read(snapshot.folder)["history"]["nmi"]
            boundaries = snapshot.module.timeline.boundaries
            figures.save_figure(figures.nmi_over_training(history, boundaries), snapshot.folder, "nmi")


def _by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(names, np.round(values, 4).tolist(), strict=True))
