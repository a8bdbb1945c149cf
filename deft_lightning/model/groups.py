"""Encoder groups: the latents of each, and each group's learning rate in every stage (section 5.2). No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError

CHOICES = {
    "inactive": ("scaled", "frozen", "prior"),
    "gamma_on": ("learning_rate", "gradient"),
    "adam_at_switch": ("kept", "reset"),
}


@dataclass(frozen=True)
class Groups:
    """G encoder groups, of which one is active in every stage (section 5.2).

    The last three fields choose variants of Algorithm 1. The first value of each is that of the paper.

    Attributes:
        latents: number of latents of each group, [G].
        gamma: factor on the learning rate of the inactive groups, in [0, 1].
        inactive: what inactive groups do. "scaled": all learn at gamma x lr. "frozen": groups of earlier stages do not
            learn. "prior": groups of later stages have mean 0 and log variance 0, thus KL 0, until their stage begins.
        gamma_on: what gamma scales, the "learning_rate" or the "gradient". Adam divides by the size of the gradient,
            so that the effect of scaling it fades within some thousand steps.
        adam_at_switch: whether the state of Adam is "kept" or "reset" when a stage begins.

    Raises:
        DeftError: for a wrong value; the message names the field.
    """

    latents: Sequence[int]
    gamma: float = 0.1
    inactive: str = "scaled"
    gamma_on: str = "learning_rate"
    adam_at_switch: str = "kept"

    def __post_init__(self) -> None:
        latents = self.latents
        is_list = not isinstance(latents, str) and isinstance(latents, Sequence) and len(latents) > 0
        if not is_list or any(not checks.is_whole(n) or n < 1 for n in latents):
            raise DeftError(
                f"groups.latents is {latents!r}: give the number of latents of every group, as in [3,3,2,2]."
            )
        object.__setattr__(self, "latents", tuple(latents))
        checks.number("groups.gamma", self.gamma, 0, 1)
        for field, choices in CHOICES.items():
            checks.choice(f"groups.{field}", getattr(self, field), choices)

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def variants(self) -> list[str]:
        """The chosen variants, in one to three words each. Empty for the Algorithm 1 of the paper."""
        words = {"frozen": "frozen", "prior": "prior", "gradient": "gamma on gradient", "reset": "Adam reset"}
        chosen = (getattr(self, field) for field in CHOICES)
        return [words[choice] for choice in chosen if choice in words]

    def active(self, stage: int) -> int:
        """The group that learns at the full rate in `stage`. A single group is always active."""
        return stage if len(self) > 1 else 0

    def latent_slice(self, group: int) -> slice:
        """The position of the latents of `group` among all D latents."""
        first = sum(self.latents[:group])
        return slice(first, first + self.latents[group])

    def scales(self, stage: int) -> tuple[float, ...]:
        """The factor of every group in `stage`, [G]: 1 for the active group, gamma for the others (Algorithm 1)."""
        active = self.active(stage)
        earlier = 0.0 if self.inactive == "frozen" else self.gamma
        return tuple(1.0 if g == active else earlier if g < active else self.gamma for g in range(len(self)))

    def learning_rates(self, stage: int, lr: float) -> tuple[float, ...]:
        """The learning rate of every group in `stage`, [G]. It contains gamma unless that scales the gradient."""
        on_gradient = self.gamma_on == "gradient"
        return tuple(lr if on_gradient and scale else scale * lr for scale in self.scales(stage))

    def latent_mask_at(self, stage: int) -> tuple[bool, ...]:
        """Which latents encode in `stage`, [D]. With `inactive` "prior", those of later groups do not."""
        active = self.active(stage)
        return tuple(
            self.inactive != "prior" or group <= active for group, n in enumerate(self.latents) for _ in range(n)
        )

    def check(self, stages: int) -> None:
        """Raise `DeftError` if there are several groups, but fewer than stages."""
        if 1 < len(self) < stages:
            raise DeftError(
                f"the schedule has {stages} stages and groups.latents has {len(self)} groups, so that no group is "
                f"active after stage {len(self)}: use one group, or at least {stages}."
            )
