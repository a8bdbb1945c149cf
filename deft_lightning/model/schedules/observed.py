"""Schedules that follow the training: what the timeline learns from the KL of every latent. No torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from deft_lightning.model.schedules.base import Timeline


class ObservedTimeline(Timeline):
    """A timeline whose stages depend on the KL of the latents, averaged over windows of `window` steps.

    Windows are counted from the beginning of the stage. The callback `AdaptiveStages` reports every step by `observe`
    and keeps the `state` in the checkpoint. `boundaries` are the ends of the stages that have ended and the latest
    possible ends of the others.
    """

    reported = False
    """Whether something reports every step: without that no stage would end early and no pressure would be found."""
    window: int
    patience: int
    tolerance: float
    _ends: list[int]
    """Steps at which stages have ended."""

    @abstractmethod
    def observe(self, step: int, kl: Sequence[Sequence[float]] | None) -> bool:
        """Whether the stage ends after `step` steps. Must be called once after every step.

        Args:
            step: number of steps taken.
            kl: for every group, the KL of each of its latents, averaged over the window that ends with this step, in
                nats; None if no window ends.
        """

    @property
    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What has been observed, as plain values for a checkpoint."""

    @state.setter
    @abstractmethod
    def state(self, state: dict[str, Any]) -> None: ...

    @property
    def record(self) -> dict[str, Any]:
        """What results.json keeps of the state."""
        return {"boundaries": list(self.boundaries)}

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the last stage has ended."""

    def window_ends(self, step: int) -> bool:
        """Whether a window of the stage ends after `step` steps."""
        return (step - self._begin) % self.window == 0

    @property
    def settling(self) -> int:
        """The least number of steps after which a KL can have settled."""
        return (self.patience + 1) * self.window

    @property
    def _begin(self) -> int:
        """The step at which the stage has begun."""
        return self._ends[-1] if self._ends else 0

    def _active(self, kl: Sequence[Sequence[float]]) -> Sequence[float]:
        """Of the KL by group, that of the active one. A single group is always active."""
        return kl[len(self._ends) if len(kl) > 1 else 0]

    def _settled(self, means: Sequence[float]) -> bool:
        """Whether the last `patience` + 1 averages in nats differ by at most `tolerance` max(1, their mean)."""
        last = means[-self.patience - 1 :]
        if len(last) <= self.patience:
            return False
        return max(last) - min(last) <= self.tolerance * max(1.0, sum(last) / len(last))
