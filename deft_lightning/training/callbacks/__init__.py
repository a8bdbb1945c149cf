"""Lightning callbacks: what is watched, drawn and written while a DEFT module trains.

All of them write below `trainer.default_root_dir`, the run folder. `NMIMatrix`, `KLDecomposition`, `HeldOut`,
`Scores` and `Traversals` are parts of one `Evaluation`, which encodes the images for all of them.
"""

from deft_lightning.training.callbacks.adaptive_stages import AdaptiveStages
from deft_lightning.training.callbacks.base import DEFTCallback, Phase
from deft_lightning.training.callbacks.checkpoints import Checkpoints
from deft_lightning.training.callbacks.evaluation import Evaluation, EvaluationPart, Snapshot
from deft_lightning.training.callbacks.finite_loss import FiniteLoss
from deft_lightning.training.callbacks.held_out import HeldOut
from deft_lightning.training.callbacks.kl_decomposition import KLDecomposition
from deft_lightning.training.callbacks.nmi_matrix import NMIMatrix
from deft_lightning.training.callbacks.progress import RunProgress
from deft_lightning.training.callbacks.run_results import RunResults
from deft_lightning.training.callbacks.scores import Scores
from deft_lightning.training.callbacks.stage_pressure import StagePressure
from deft_lightning.training.callbacks.traversals import Traversals

__all__ = [
    "AdaptiveStages",
    "Checkpoints",
    "DEFTCallback",
    "Evaluation",
    "EvaluationPart",
    "FiniteLoss",
    "HeldOut",
    "KLDecomposition",
    "NMIMatrix",
    "Phase",
    "RunProgress",
    "RunResults",
    "Scores",
    "Snapshot",
    "StagePressure",
    "Traversals",
]
