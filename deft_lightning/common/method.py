"""How a run's method is recorded, and what it is called in tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

PAPER = "Bernoulli"
"""The likelihood of the paper."""


@dataclass(frozen=True)
class Method:
    """The choices that name a method.

    `objective` is the label of the objective, "beta-VAE"; `groups` and `stages` count the encoder groups and the
    stages; `variants` are the variants of Algorithm 1, by a word each; `name`, where the user gave one, replaces these.
    The `likelihood` is said, unless it is that of the paper: values in nats of two likelihoods cannot be compared.
    """

    objective: str
    groups: int = 1
    stages: int = 1
    variants: Sequence[str] = ()
    likelihood: str = field(default=PAPER, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    @property
    def is_deft(self) -> bool:
        """Whether several groups are trained in several stages, as Algorithm 1 has it."""
        return self.groups > 1 and self.stages > 1

    @property
    def is_ablation(self) -> bool:
        """Whether it has one half of DEFT, groups or stages, or a variant of Algorithm 1."""
        return self.name is None and ((self.groups > 1) != (self.stages > 1) or bool(self.variants and self.is_deft))

    @property
    def label(self) -> str:
        """The name in tables and figures: "beta-VAE", "DEFT (FactorVAE)", "DEFT, Gaussian sigma 0.1"."""
        return self._name if self.likelihood == PAPER else f"{self._name}, {self.likelihood}"

    @property
    def _name(self) -> str:
        """The name without the likelihood."""
        if self.name is not None:
            return self.name
        if self.is_deft:
            name = self.objective
            if not name.startswith("DEFT"):
                name = "DEFT" if name == "beta-VAE" else f"DEFT ({name})"
            return ", ".join([name, *self.variants])
        if self.groups > 1:
            return f"{self.objective}, {self.groups} groups"
        return f"{self.objective}, piecewise" if self.stages > 1 else self.objective

    def record(self) -> dict[str, Any]:
        """As results.json holds it."""
        return asdict(self) | {"variants": list(self.variants)}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """The method that `record` describes; absent fields have their defaults."""
        fields = {
            key: record[key]
            for key in ("groups", "stages", "variants", "likelihood", "name")
            if record.get(key) is not None
        }
        return cls(str(record.get("objective", "unknown")), **fields)
