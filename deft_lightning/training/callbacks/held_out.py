"""The loss on the images that are held out, over training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from torch import Tensor

from deft_lightning.common import results
from deft_lightning.data.datamodule import FactorDataModule, HeldOutLoader
from deft_lightning.model.global_batch import only_this_process
from deft_lightning.model.module import DEFT
from deft_lightning.training.callbacks.base import log_numbers, scaled_epoch
from deft_lightning.training.callbacks.evaluation import EvaluationPart, Snapshot


class HeldOut(EvaluationPart):
    """Logs the parts of the loss on held-out images every epoch and at the end of every stage, as `validation/...`.

    The images are those that are scored, at most `num_points`; an epoch is shortened by the scale as stages are. The
    numbers are kept in results.json by step and by stage. Does nothing where no images are held out.
    """

    def __init__(self) -> None:
        self._active = False

    def start(self, data: FactorDataModule) -> None:
        """See whether images are held out."""
        self._active = data.split is not None

    def due(self, module: DEFT, stage: int | None) -> bool:
        return self._active and (stage is not None or module.global_step % scaled_epoch(module) == 0)

    def evaluate(self, snapshot: Snapshot) -> None:
        """Compute the parts of the loss; log them and keep the totals in results.json."""
        parts = mean_parts(snapshot.module, HeldOutLoader(snapshot.data, snapshot.encoding.indices))
        log_numbers(snapshot.trainer, {f"validation/{name}": value for name, value in parts.items()})
        totals = {name: value for name, value in parts.items() if "/" not in name}  # without those of single latents
        results.update(snapshot.folder, history={"validation": {str(snapshot.step): totals}})
        if snapshot.stage is not None:
            results.update(snapshot.folder, stages={f"stage_{snapshot.stage + 1}": {"validation": totals}})


def mean_parts(module: DEFT, batches: Iterable[Tensor]) -> dict[str, float]:
    """The parts of the loss, in nats, averaged over all images of `batches`, float32 [B, C, H, W] each."""
    totals: dict[str, float] = defaultdict(float)
    count = 0
    with module.evaluating(), only_this_process():
        for place, images in enumerate(batches):
            for name, value in module.validation_parts(images.to(module.device), place).items():
                totals[name] += float(value) * len(images)
            count += len(images)
    return {name: total / count for name, total in totals.items()}
