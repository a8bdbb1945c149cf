"""Encoder groups: who encodes, and who may learn fast now (section 5.2). Pure, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deft_lightning.errors import DeftError


@dataclass(frozen=True)
class Groups:
    """G encoder groups: `latents` of each, `gamma` for the inactive ones, `width` of the networks.

    `count`, where given, must be their number. Raises `DeftError` for latents that do not match it or are
    not positive, and for gamma outside [0, 1].
    """

    latents: Sequence[int]
    gamma: float = 0.1
    width: str = "narrow"
    count: int | None = None

    def __post_init__(self) -> None:
        latents = self.latents
        whole = not isinstance(latents, str) and isinstance(latents, Sequence) and len(latents) > 0
        if not whole or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in latents):
            raise DeftError(
                f"groups.latents is {latents!r}: give the number of latents of every group, as in [3,3,2,2]."
            )
        object.__setattr__(self, "latents", tuple(latents))
        if self.count is not None and self.count != len(self):
            raise DeftError(
                f"groups.latents {list(self.latents)} names {len(self)} groups and groups.count is {self.count}: "
                "make them agree."
            )
        number = isinstance(self.gamma, int | float) and not isinstance(self.gamma, bool)
        if not number or not 0 <= self.gamma <= 1:
            raise DeftError(f"groups.gamma is {self.gamma!r}: give a number from 0 to 1.")

    def __len__(self) -> int:
        return len(self.latents)

    def active(self, stage: int) -> int:
        """The group that learns at the full rate in `stage`; a single group always does."""
        return stage if len(self) > 1 else 0

    def learning_rates(self, stage: int, lr: float) -> tuple[float, ...]:
        """lr1 for the active group and gamma x lr1 for every other, [G] (Algorithm 1)."""
        active = self.active(stage)
        return tuple(lr if group == active else self.gamma * lr for group in range(len(self)))

    def check(self, stages: int) -> None:
        """Raise `DeftError` when there are more stages than groups to be active in them."""
        if 1 < len(self) < stages:
            raise DeftError(
                f"the schedule has {stages} stages and groups.latents has {len(self)} groups, so that no group is "
                f"active after stage {len(self)}: use one group, or at least {stages}."
            )
