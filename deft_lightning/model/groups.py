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
    """G encoder groups: the `latents` of each, and `gamma`, the learning-rate factor of the inactive ones.

    The other fields choose variants of Algorithm 1; the first value of each is the paper's:

    - `inactive`: "scaled", all inactive groups learn at gamma x lr1; "frozen", groups of earlier stages do not learn;
      "prior", groups of later stages have mean 0 and log variance 0, so KL 0, until their stage begins.
    - `gamma_on`: what gamma scales, the "learning_rate" or the "gradient". Adam divides by the size of the gradient,
      so the effect of scaling it fades within some thousand steps.
    - `adam_at_switch`: whether Adam's moments are "kept" or "reset" when a stage begins.

    Raises `DeftError` for latents that are not positive, gamma outside [0, 1], or a variant that does not exist.
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
        """The variants chosen, by a word each; empty for Algorithm 1 as the paper has it."""
        words = {"frozen": "frozen", "prior": "prior", "gradient": "gamma on gradient", "reset": "Adam reset"}
        chosen = (getattr(self, field) for field in CHOICES)
        return [words[choice] for choice in chosen if choice in words]

    def active(self, stage: int) -> int:
        """The group that learns at the full rate in `stage`; a single group always does."""
        return stage if len(self) > 1 else 0

    def latent_slice(self, group: int) -> slice:
        """Where the latents of `group` are among all D."""
        first = sum(self.latents[:group])
        return slice(first, first + self.latents[group])

    def scales(self, stage: int) -> tuple[float, ...]:
        """What multiplies lr1 in `stage`, [G]: 1 for the active group, gamma for every other (Algorithm 1)."""
        active = self.active(stage)
        earlier = 0.0 if self.inactive == "frozen" else self.gamma
        return tuple(1.0 if g == active else earlier if g < active else self.gamma for g in range(len(self)))

    def learning_rates(self, stage: int, lr: float) -> tuple[float, ...]:
        """The learning rate of every group in `stage`, [G]; without gamma where that scales the gradient."""
        on_gradient = self.gamma_on == "gradient"
        return tuple(lr if on_gradient and scale else scale * lr for scale in self.scales(stage))

    def latent_mask_at(self, stage: int) -> tuple[bool, ...]:
        """Which latents encode in `stage`, [D]: all, except with `inactive` "prior" those of later groups."""
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
