"""Active units: the number of latents that the encoder uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deft_lightning.metrics._inputs import FloatArray, as_codes


@dataclass(frozen=True)
class ActiveUnits:
    """Result of `active_units`.

    Attributes:
        score: number of active latents, 0 to D.
        variance: [D], variance of each latent's mean code over the data.
    """

    score: int
    variance: FloatArray

    def __str__(self) -> str:
        return f"{self.score} of {len(self.variance)} latents active"


def active_units(codes: Any, threshold: float = 0.01) -> ActiveUnits:
    """Active units (Burda et al. 2016, Sec. 5.2): number of latents whose mean code varies over the data.

    Latent j is active if

        A_j = Var_x(E_q[z_j | x]) > threshold

    A perfect representation uses one latent per factor. A random projection uses all D latents, so a higher
    number is not better.

    Known weakness: the variance depends on the scale of the latent. The threshold means little for codes
    without a unit Gaussian prior that fixes their scale.

    Args:
        codes: [N, D], mean codes.
        threshold: smallest variance of an active latent, exclusive.

    Raises:
        DeftError: for NaN codes or codes that are not a matrix.

    Examples:
        >>> import numpy as np
        >>> from deft_lightning.metrics import active_units
        >>> codes = np.array([[-1.0, 0.02, 0.5], [1.0, -0.02, 0.5]])  # varies, varies too little, constant
        >>> print(active_units(codes))
        1 of 3 latents active
    """
    variance = as_codes(codes).var(axis=0)
    return ActiveUnits(int((variance > threshold).sum()), variance)
