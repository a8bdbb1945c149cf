"""Encoder groups: who encodes, and who may learn fast now (section 5.2). Pure, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deft_lightning.common.checks import is_number, is_whole
from deft_lightning.common.errors import DeftError

CHOICES = {
    "inactive": ("scaled", "frozen", "prior"),
    "gamma_on": ("learning_rate", "gradient"),
    "adam_at_switch": ("kept", "reset"),
}


@dataclass(frozen=True)
class Groups:
    """G encoder groups: `latents` of each, `gamma` for the inactive ones, `width` of the networks.

    `count`, where given, must be their number. The rest are variants of Algorithm 1, its own ones first:

    - `inactive`: "scaled", all inactive groups learn at gamma x lr1; "frozen", those of earlier stages not at all;
      "prior", those of later stages have mean 0 and log variance 0, so KL 0, until their stage comes.
    - `gamma_on`: what gamma scales, the "learning_rate" or the "gradient"; under Adam, which divides by the
      gradient's own size, the latter fades within some thousand steps.
    - `adam_at_switch`: whether Adam's moments are "kept" or "reset" when a stage begins.

    Raises `DeftError` for latents that do not match `count` or are not positive, for gamma outside [0, 1], and for
    a variant that does not exist.
    """

    latents: Sequence[int]
    gamma: float = 0.1
    width: str = "narrow"
    count: int | None = None
    inactive: str = "scaled"
    gamma_on: str = "learning_rate"
    adam_at_switch: str = "kept"

    def __post_init__(self) -> None:
        latents = self.latents
        whole = not isinstance(latents, str) and isinstance(latents, Sequence) and len(latents) > 0
        if not whole or any(not is_whole(n) or n < 1 for n in latents):
            raise DeftError(
                f"groups.latents is {latents!r}: give the number of latents of every group, as in [3,3,2,2]."
            )
        object.__setattr__(self, "latents", tuple(latents))
        if self.count is not None and self.count != len(self):
            raise DeftError(
                f"groups.latents {list(self.latents)} names {len(self)} groups and groups.count is {self.count}: "
                "make them agree."
            )
        if not is_number(self.gamma) or not 0 <= self.gamma <= 1:
            raise DeftError(f"groups.gamma is {self.gamma!r}: give a number from 0 to 1.")
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise DeftError(f"groups.{field} is {getattr(self, field)!r}: use one of {', '.join(choices)}.")

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def variants(self) -> list[str]:
        """The variants chosen, by a word each; empty for Algorithm 1 as the paper has it."""
        words = {"frozen": "frozen", "prior": "prior", "gradient": "gamma on gradient", "reset": "Adam reset"}
        chosen = (getattr(self, field) for field in CHOICES)
        return [words[choice] for choice in chosen if choice in words]

    def active(self, stage: int) -> int:
        """The group that learns at the full rate in `stage`; a single group always does."""
        return stage if len(self) > 1 else 0

    def scales(self, stage: int) -> tuple[float, ...]:
        """What multiplies lr1 in `stage`, [G]: 1 for the active group, gamma for every other (Algorithm 1)."""
        active = self.active(stage)
        earlier = 0.0 if self.inactive == "frozen" else self.gamma
        return tuple(1.0 if g == active else earlier if g < active else self.gamma for g in range(len(self)))

    def learning_rates(self, stage: int, lr: float) -> tuple[float, ...]:
        """The learning rate of every group in `stage`, [G]; without gamma where that is on the gradient."""
        on_gradient = self.gamma_on == "gradient"
        return tuple(lr if on_gradient and scale else scale * lr for scale in self.scales(stage))

    def encoding_latents(self, stage: int) -> tuple[bool, ...]:
        """Which latents encode in `stage`, [D]: all, but for `inactive` "prior", where later groups' do not."""
        active = self.active(stage)
        return tuple(
            self.inactive != "prior" or group <= active for group, n in enumerate(self.latents) for _ in range(n)
        )

    def check(self, stages: int) -> None:
        """Raise `DeftError` when there are more stages than groups to be active in them."""
        if 1 < len(self) < stages:
            raise DeftError(
                f"the schedule has {stages} stages and groups.latents has {len(self)} groups, so that no group is "
                f"active after stage {len(self)}: use one group, or at least {stages}."
            )
