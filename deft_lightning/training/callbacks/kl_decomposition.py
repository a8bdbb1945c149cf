"""The KL term split into mutual information, total correlation and dimension-wise KL over training (Fig. 12)."""

from __future__ import annotations

import torch

from deft_lightning.common import checks, results
from deft_lightning.common.seeding import Stream, generator
from deft_lightning.model.module import DEFT
from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives import kl_decomposition
from deft_lightning.training.callbacks.base import log_numbers, scaled_epoch
from deft_lightning.training.callbacks.evaluation import EvaluationPart, Snapshot


class KLDecomposition(EvaluationPart):
    """Logs MI, TC and DWKL in nats (Chen et al. 2018) at the end of every stage, or of every epoch as well.

    The aggregated posterior is that of the evaluation sample, exactly; MI cannot exceed the logarithm of the number of
    images. `every` is "stage" or "epoch", which the scale shortens as it does the stages. Raises `DeftError` for
    anything else.
    """

    def __init__(self, every: str = "stage") -> None:
        self.every = checks.choice("callbacks.kl_decomposition.every", every, ("stage", "epoch"))

    def due(self, module: DEFT, stage: int | None) -> bool:
        return stage is not None or (self.every == "epoch" and module.global_step % scaled_epoch(module) == 0)

    def evaluate(self, snapshot: Snapshot) -> None:
        """Split the KL; keep it in results.json by step."""
        encoding, device = snapshot.encoding, snapshot.module.device
        posterior = Posterior(*(torch.as_tensor(x, device=device) for x in (encoding.codes, encoding.log_variance)))
        random = generator(snapshot.data.seed, Stream.EVALUATION, 6)  # the same noise at every step
        noise = torch.randn(posterior.mean.shape, generator=random).to(device)
        parts = kl_decomposition(posterior.mean, posterior.log_variance, posterior.sample(noise))
        numbers = {name: float(value) for name, value in parts._asdict().items()} | {"kl": float(encoding.kl.sum())}
        log_numbers(snapshot.trainer, {f"kl_decomposition/{name}": value for name, value in numbers.items()})
        results.update(snapshot.folder, history={"kl_decomposition": {str(snapshot.step): numbers}})
