"""DEFT (TC), Eq. 7: DEFT's pressure on the mutual information alone, and a weight of its own for the TC."""

from __future__ import annotations

from torch import Tensor

from deft_lightning.common import checks
from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives.base import Loss, Objective, elbo_parts
from deft_lightning.model.objectives.decomposition import ESTIMATORS, minibatch_decomposition


class DEFTTC(Objective):
    """R + alpha MI + beta TC + DWKL, alpha being the pressure; the terms are estimated by `minibatch_decomposition`.

    They are logged as `mi`, `tc` and `dwkl`, with the estimator's bias, large but nearly constant for `weighted`.
    Raises `DeftError` for a negative beta or an unknown estimator.
    """

    label = "DEFT (TC)"

    def __init__(self, beta: float = 8.0, estimator: str = "weighted") -> None:
        super().__init__()
        self.beta = checks.number("objective.beta", beta)
        self.estimator = checks.choice("objective.estimator", estimator, ESTIMATORS)

    def loss(self, batch: Tensor, logits: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        parts = elbo_parts(batch, logits, posterior)
        terms = minibatch_decomposition(posterior, sample, self.dataset_size, self.estimator)
        total = parts["reconstruction"] + pressure * terms.mi + self.beta * terms.tc + terms.dwkl
        return Loss(total, {"loss": total, **parts, **terms._asdict()})
