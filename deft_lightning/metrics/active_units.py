"""Active units: how many latents the encoder uses at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.metrics._inputs import as_codes


@dataclass(frozen=True)
class ActiveUnits:
    """`score`, the number of active latents; `variance` of every latent's mean code [D]."""

    score: int
    variance: NDArray[np.float64]

    def __str__(self) -> str:
        return f"{self.score} of {len(self.variance)} latents active"


def active_units(codes: Any, threshold: float = 0.01) -> ActiveUnits:
    """Active units (Burda et al. 2016, Sec. 5.2): latents whose mean code has a variance over the data above 0.01.

    A_j = Var_x(E_q[z_j | x]) of codes [N, D]; 0 to D. A perfect representation uses one latent a factor; a
    random projection uses all D, so more is not better. Known weakness: the variance carries the latent's
    unit, and the threshold means little for codes that no unit-Gaussian prior holds to its scale. Raises
    `DeftError` for NaN codes or shapes that do not fit.
    """
    variance = as_codes(codes).var(axis=0)
    return ActiveUnits(int((variance > threshold).sum()), variance)
