"""Information thresholds: the pressures at which a model begins to pass information (section 5.1), and their uses.

The anneal test is a run of the DEFT module under `schedule=anneal`, recorded by `AnnealRecorder`. Two measurements are
built on it: the thresholds of single factors (Fig. 6), and pressures proposed without labels. The commands are in
`python -m deft_lightning.thresholds`.
"""

from typing import Any

from deft_lightning.thresholds.auto import Auto
from deft_lightning.thresholds.crossing import Curve, first_stays_above, smooth

__all__ = ["AnnealRecorder", "Auto", "Curve", "first_stays_above", "smooth"]


def __getattr__(name: str) -> Any:
    """Import the recorder when it is first used: a schedule needs no torch."""
    if name != "AnnealRecorder":
        raise AttributeError(f"module 'deft_lightning.thresholds' has no attribute {name!r}")
    from deft_lightning.thresholds.recorder import AnnealRecorder  # noqa: PLC0415

    return AnnealRecorder
