"""Lightning callbacks: what is watched, drawn and written while a DEFT module trains.

All of them write below `trainer.default_root_dir`, the run folder.
"""

from deft_lightning.callbacks.adaptive_stages import AdaptiveStages
from deft_lightning.callbacks.anneal_recorder import AnnealRecorder
from deft_lightning.callbacks.checkpoints import Checkpoints
from deft_lightning.callbacks.finite_loss import FiniteLoss
from deft_lightning.callbacks.kl_decomposition import KLDecomposition
from deft_lightning.callbacks.nmi_matrix import NMIMatrix
from deft_lightning.callbacks.progress import RunProgress
from deft_lightning.callbacks.run_results import RunResults
from deft_lightning.callbacks.scores import Scores
from deft_lightning.callbacks.stage_pressure import StagePressure
from deft_lightning.callbacks.traversals import Traversals

__all__ = [
    "AdaptiveStages",
    "AnnealRecorder",
    "Checkpoints",
    "FiniteLoss",
    "KLDecomposition",
    "NMIMatrix",
    "RunProgress",
    "RunResults",
    "Scores",
    "StagePressure",
    "Traversals",
]
