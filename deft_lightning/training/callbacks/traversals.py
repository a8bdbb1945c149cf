"""Pictures of what the latents do: traversals (Fig. 14), an animation of them, and reconstructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from deft_lightning.common import results
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.evaluation.codes import codes_now, latent_titles
from deft_lightning.model.module import DEFT
from deft_lightning.training.callbacks import figures
from deft_lightning.training.callbacks._common import AtStageEnd, figures_folder, log_image, save_figure


class Traversals(AtStageEnd):
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

    def at_stage_end(self, trainer: pl.Trainer, module: DEFT, data: FactorDataModule, stage: int) -> None:
        """Draw traversals, their animation, and reconstructions."""
        table = codes_now(trainer, self.num_points)
        order = np.argsort(-table.kl)  # most informative latent first
        titles = latent_titles(table, data.dataset.factor_names, self.bins)
        rows = [f"z{j}  {table.kl[j]:.2f} nats  {titles[j]}".rstrip() for j in order]
        images = self._traverse(module, torch.as_tensor(table.codes[0]), order)  # [D, columns, C, H, W]
        name = f"stage_{stage + 1}"
        figure = figures.traversal_grid(images, rows, self.span, f"stage {stage + 1}, step {trainer.global_step:,}")
        traversals = save_figure(figure, trainer, f"traversals_{name}")
        log_image(trainer, "traversals", traversals)
        figures.traversal_animation(images, [f"z{j} {titles[j]}".strip() for j in order]).save(
            figures_folder(trainer) / f"traversals_{name}.gif"
        )
        reconstructions = self._reconstruct(trainer, module, data, table.indices[: self.examples], name)
        pictures = {"traversals": traversals, "reconstructions": reconstructions}
        root = Path(trainer.default_root_dir)
        relative = {key: path.relative_to(root).as_posix() for key, path in pictures.items()}
        results.update(root, stages={name: {"pictures": relative}})

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
        self, trainer: pl.Trainer, module: DEFT, data: FactorDataModule, indices: torch.Tensor, name: str
    ) -> Path:
        originals = next(iter(data.evaluation_images(indices))).to(module.device)
        decoded = module.decode(module.encode(originals).mean)
        title = f"{name.replace('_', ' ')}, step {trainer.global_step:,}"
        figure = figures.reconstruction_grid(originals.cpu().numpy(), decoded.cpu().numpy(), title)
        path = save_figure(figure, trainer, f"reconstructions_{name}")
        log_image(trainer, "reconstructions", path)
        return path
