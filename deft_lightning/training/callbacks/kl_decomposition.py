"""The KL term split into mutual information, total correlation and dimension-wise KL over training (Fig. 12)."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl
import torch

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, generator
from deft_lightning.evaluation.codes import codes_now, data_of
from deft_lightning.model.module import DEFT
from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives import kl_decomposition
from deft_lightning.training.callbacks._common import finished_stage, log_numbers, scaled_epoch


class KLDecomposition(pl.Callback):
    """Logs MI, TC and DWKL in nats (Chen et al. 2018) at the end of every stage, or of every epoch as well.

    The aggregated posterior is that of `num_points` fixed images, exactly; MI cannot exceed the logarithm of
    their number. `every` is "stage" or "epoch", which the scale shortens as it does the stages. Raises `DeftError`
    for anything else.
    """

    def __init__(self, num_points: int = 10_000, every: str = "stage") -> None:
        if every not in ("stage", "epoch"):
            raise DeftError(f"callbacks.kl_decomposition.every is {every!r}: use stage or epoch.")
        self.num_points, self.every = num_points, every

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Split the KL where that is due; keep it in results.json by step."""
        module, step = cast(DEFT, pl_module), trainer.global_step
        due = finished_stage(module) is not None or (self.every == "epoch" and step % scaled_epoch(module) == 0)
        if not due or not trainer.is_global_zero:
            return
        table = codes_now(trainer, self.num_points)
        posterior = Posterior(*(torch.as_tensor(x, device=module.device) for x in (table.codes, table.log_variance)))
        random = generator(data_of(trainer).seed, Stream.EVALUATION, 6)  # the same noise at every step
        noise = torch.randn(posterior.mean.shape, generator=random).to(module.device)
        parts = kl_decomposition(posterior.mean, posterior.log_variance, posterior.sample(noise))
        numbers = {name: float(value) for name, value in parts._asdict().items()} | {"kl": float(table.kl.sum())}
        log_numbers(trainer, {f"kl_decomposition/{name}": value for name, value in numbers.items()})
        results.update(trainer.default_root_dir, history={"kl_decomposition": {str(step): numbers}})
