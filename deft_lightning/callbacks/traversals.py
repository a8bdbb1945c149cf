"""Pictures of what the latents do: traversals (Fig. 14), an animation of them, and reconstructions."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch

from deft_lightning import figures
from deft_lightning.callbacks._common import figures_folder, finished_stage, log_image, save_figure
from deft_lightning.codes import codes_now, latent_titles
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.module import DEFT


class Traversals(pl.Callback):
    """At every stage end: one row a latent, ordered by KL, over `columns` values from -span to span.

    The other latents stay at the code of one image. Titles name the factor of highest NMI, computed on
    `num_points` images with `bins` bins.
    """

    def __init__(
        self,
        columns: int = 9,
        span: float = 2.0,
        num_points: int = 10_000,
        bins: int = 20,
        examples: int = 10,
    ) -> None:
        self.columns, self.span = columns, span
        self.num_points, self.bins, self.examples = num_points, bins, examples

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw where this step ended a stage."""
        index = finished_stage(pl_module)
        if index is None or not trainer.is_global_zero:
            return
        module, data = cast(DEFT, pl_module), cast(FactorDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        table = codes_now(trainer, self.num_points)
        order = np.argsort(-table.kl)  # most informative latent first
        titles = latent_titles(table, data.dataset.factor_names, self.bins)
        rows = [f"z{j}  {table.kl[j]:.2f} nats  {titles[j]}".rstrip() for j in order]
        images = self._traverse(module, torch.as_tensor(table.codes[0]), order)  # [D, columns, C, H, W]
        stage = f"stage_{index + 1}"
        figure = figures.traversal_grid(
            images, rows, self.span, f"{stage.replace('_', ' ')}, step {trainer.global_step:,}"
        )
        log_image(trainer, "traversals", save_figure(figure, trainer, f"traversals_{stage}"))
        figures.traversal_animation(images, [f"z{j} {titles[j]}".strip() for j in order]).save(
            figures_folder(trainer) / f"traversals_{stage}.gif"
        )
        self._reconstruct(trainer, module, data, table.indices[: self.examples], stage)

    @torch.no_grad()
    def _traverse(self, module: DEFT, code: torch.Tensor, order: np.ndarray) -> np.ndarray:
        values = torch.linspace(-self.span, self.span, self.columns)
        latents = code.repeat(len(order), self.columns, 1)  # [D, columns, D]
        for row, latent in enumerate(order):
            latents[row, :, latent] = values
        images = module.decode(latents.flatten(0, 1).to(module.device))  # [D * columns, C, H, W]
        return images.unflatten(0, (len(order), self.columns)).cpu().numpy()

    @torch.no_grad()
    def _reconstruct(
        self, trainer: pl.Trainer, module: DEFT, data: FactorDataModule, indices: torch.Tensor, stage: str
    ) -> None:
        originals = next(iter(data.evaluation_images(indices))).to(module.device)
        decoded = module.decode(module.encode(originals).mean)
        figure = figures.reconstruction_grid(originals.cpu().numpy(), decoded.cpu().numpy())
        log_image(trainer, "reconstructions", save_figure(figure, trainer, f"reconstructions_{stage}"))
