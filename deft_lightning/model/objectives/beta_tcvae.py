"""beta-TCVAE (Chen et al. 2018): the total correlation under a weight of its own."""

from __future__ import annotations

from torch import Tensor

from deft_lightning.common import checks
from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives.base import Loss, Objective, elbo_parts
from deft_lightning.model.objectives.decomposition import ESTIMATORS, minibatch_decomposition


class BetaTCVAE(Objective):
    """R + pressure KL + (beta - 1) TC; TC is estimated over the batch by `minibatch_decomposition`.

    The three terms of the KL are logged as `mi`, `tc` and `dwkl`, with the estimator's bias, large but nearly constant
    for `weighted`. Raises `DeftError` for a negative beta or an unknown estimator.
    """

    label = "beta-TCVAE"

    def __init__(self, beta: float = 6.0, estimator: str = "weighted") -> None:
        super().__init__()
        self.beta = checks.number("objective.beta", beta)
        self.estimator = checks.choice("objective.estimator", estimator, ESTIMATORS)

    def loss(self, batch: Tensor, logits: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        parts = elbo_parts(batch, logits, posterior)
        terms = minibatch_decomposition(posterior, sample, self.dataset_size, self.estimator)
        total = parts["reconstruction"] + pressure * parts["kl"] + (self.beta - 1.0) * terms.tc
        return Loss(total, {"loss": total, **parts, **terms._asdict()})
