"""Information thresholds: the pressure at which a model begins to pass information (section 5.1), and what uses it.

The anneal test is a run of the one module under `schedule=anneal`, watched by `callbacks.AnnealRecorder`. Built on
it: thresholds of single factors (Fig. 6) and pressures proposed without labels. `python -m deft_lightning.thresholds`.
"""

from deft_lightning.schedule_auto import auto
from deft_lightning.thresholds.crossing import Curve, first_stays_above, smooth

__all__ = ["Curve", "auto", "first_stays_above", "smooth"]
