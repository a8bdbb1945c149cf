"""Pictures of the latents: traversals (Fig. 14), an animation of them, and reconstructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from deft_lightning.common import checks, results
from deft_lightning.evaluation.codes import MIN_KL, latent_labels
from deft_lightning.model.module import DEFT
from deft_lightning.training import figures
from deft_lightning.training.callbacks.base import log_image
from deft_lightning.training.callbacks.evaluation import EvaluationPart, Snapshot


class Traversals(EvaluationPart):
    """Draws traversals and reconstructions at every stage end.

    Traversals have one row for each latent that passes information, in order of KL. In a row the latent takes
    `columns` values from -span to span, and the others keep the code of one image. The row is labelled with the
    latent's factor of highest NMI, unless that is low. `examples` images are shown above their reconstructions.
    Raises `DeftError` for an argument that is not above 0.
    """

    def __init__(self, columns: int = 9, span: float = 2.0, examples: int = 10) -> None:
        self.columns = checks.whole("callbacks.traversals.columns", columns, 1)
        self.span = checks.number("callbacks.traversals.span", span, 0, above=True)
        self.examples = checks.whole("callbacks.traversals.examples", examples, 1)

    def evaluate(self, snapshot: Snapshot) -> None:
        """Draw and log the pictures; keep their paths in results.json."""
        assert snapshot.stage is not None
        encoding, folder = snapshot.encoding, snapshot.folder
        order = np.argsort(-encoding.kl)  # most informative latent first
        order = order[: max(1, int((encoding.kl >= MIN_KL).sum()))]
        labels = latent_labels(encoding, snapshot.data.dataset.factor_names, snapshot.bins)
        rows = [f"z{j}  {encoding.kl[j]:.2f} nats  {labels[j]}".rstrip() for j in order]
        images = self._traverse(snapshot.module, torch.as_tensor(encoding.codes[0]), order)  # [rows, columns, C, H, W]
        name = f"stage_{snapshot.stage + 1}"
        title = f"stage {snapshot.stage + 1}, step {snapshot.step:,}"
        traversals = figures.save_figure(
            figures.traversal_grid(images, rows, self.span, title), folder, f"traversals_{name}"
        )
        log_image(snapshot.trainer, "traversals", traversals)
        figures.traversal_animation(images, [f"z{j} {labels[j]}".strip() for j in order]).save(
            figures.figures_folder(folder) / f"traversals_{name}.gif"
        )
        reconstructions = self._reconstruct(snapshot, name, title)
        pictures = {"traversals": traversals, "reconstructions": reconstructions}
        relative = {key: path.relative_to(folder).as_posix() for key, path in pictures.items()}
        results.update(folder, stages={name: {"pictures": relative}})

    def _traverse(self, module: DEFT, code: torch.Tensor, order: np.ndarray) -> np.ndarray:
        values = torch.linspace(-self.span, self.span, self.columns)
        latents = code.repeat(len(order), self.columns, 1)  # [rows, columns, D]
        for row, latent in enumerate(order):
            latents[row, :, latent] = values
        images = module.decode(latents.flatten(0, 1))  # [rows * columns, C, H, W]
        return images.unflatten(0, (len(order), self.columns)).numpy()

    def _reconstruct(self, snapshot: Snapshot, name: str, title: str) -> Path:
        module, data = snapshot.module, snapshot.data
        indices = snapshot.encoding.indices[: self.examples]
        originals = next(iter(data.evaluation_images(indices)))
        decoded = module.reconstruct(originals)
        figure = figures.reconstruction_grid(originals.cpu().numpy(), decoded.cpu().numpy(), title)
        path = figures.save_figure(figure, snapshot.folder, f"reconstructions_{name}")
        log_image(snapshot.trainer, "reconstructions", path)
        return path
