"""Objectives with a weight for the total correlation: beta-TCVAE (Chen et al. 2018), and DEFT (TC) of Eq. 7."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from deft_lightning.common import checks
from deft_lightning.model.networks import Posterior
from deft_lightning.model.objectives.base import Loss, Objective, elbo_parts
from deft_lightning.model.objectives.decomposition import ESTIMATORS, Decomposition, minibatch_decomposition


class WeightedTC(Objective):
    """An objective over the terms MI, TC and DWKL of the KL, which `minibatch_decomposition` estimates.

    They are logged as `mi`, `tc` and `dwkl`, including the bias of the estimator. That of "weighted" is large but
    nearly constant.

    Args:
        beta: weight of the total correlation, from 0 up.
        estimator: "weighted" or "stratified".

    Raises:
        DeftError: for a negative beta or an unknown estimator.
    """

    def __init__(self, beta: float, estimator: str = "weighted") -> None:
        super().__init__()
        self.beta = checks.number("objective.beta", beta)
        self.estimator = checks.choice("objective.estimator", estimator, ESTIMATORS)

    @abstractmethod
    def total(self, elbo: dict[str, Tensor], terms: Decomposition, pressure: Tensor) -> Tensor:
        """The loss, a scalar, from the parts that `elbo_parts` returns and the terms of the KL."""

    def loss(self, reconstruction: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        elbo = elbo_parts(reconstruction, posterior)
        terms = minibatch_decomposition(posterior, sample, self.dataset_size, self.estimator)
        total = self.total(elbo, terms, pressure)
        return Loss(total, {"loss": total, **elbo, **terms._asdict()})


class BetaTCVAE(WeightedTC):
    """beta-TCVAE (Chen et al. 2018). The total correlation, a part of the KL, has weight beta at pressure 1.

        loss = R + pressure KL + (beta - 1) TC

    See `WeightedTC` for the arguments.
    """

    label = "beta-TCVAE"

    def __init__(self, beta: float = 6.0, estimator: str = "weighted") -> None:
        super().__init__(beta, estimator)

    def total(self, elbo: dict[str, Tensor], terms: Decomposition, pressure: Tensor) -> Tensor:
        return elbo["reconstruction"] + pressure * elbo["kl"] + (self.beta - 1.0) * terms.tc


class DEFTTC(WeightedTC):
    """DEFT (TC), Eq. 7. The pressure alpha weights the mutual information only, beta the total correlation.

        loss = R + alpha MI + beta TC + DWKL

    See `WeightedTC` for the arguments.
    """

    label = "DEFT (TC)"

    def __init__(self, beta: float = 8.0, estimator: str = "weighted") -> None:
        super().__init__(beta, estimator)

    def total(self, elbo: dict[str, Tensor], terms: Decomposition, pressure: Tensor) -> Tensor:
        return elbo["reconstruction"] + pressure * terms.mi + self.beta * terms.tc + terms.dwkl
