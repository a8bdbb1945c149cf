"""The figures of the paper, drawn from a study: what each shows, and the command that fills it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deft_lightning.report.figures import distributions, failures, pictures, thresholds, training
from deft_lightning.report.figures._common import DPI, STYLE, WIDTH, Plate, save
from deft_lightning.report.study import Study

__all__ = ["DPI", "FIGURES", "STYLE", "WIDTH", "PaperFigure", "Plate", "save"]

TRAIN = "python -m deft_lightning --multirun"


@dataclass(frozen=True)
class PaperFigure:
    """One figure of the paper."""

    number: str
    title: str
    caption: str
    command: str
    """What to run where there is nothing to draw."""
    parts: tuple[Callable[[Study], list[Plate]], ...]


FIGURES = (
    PaperFigure(
        "Table 2, drawn",
        "Failure rates",
        "Runs with a MIG below 0.1, with 95% Wilson intervals. The best value is the swept value of the highest mean "
        "MIG, chosen on the same runs.",
        f"{TRAIN} +sweep=paper",
        (failures.failure_rates,),
    ),
    PaperFigure(
        "Fig. 1",
        "How far one run of a baseline differs from the next",
        "MIG of every run at the swept value of the highest mean MIG. A point is a run, the bar the median, the small "
        "number the number of runs; left of the dashed line (MIG 0.1) a run counts as failed.",
        f"{TRAIN} +sweep=baselines",
        (distributions.baselines,),
    ),
    PaperFigure(
        "Fig. 2",
        "Failure pattern: leakage over training",
        "Loss, MIG, max-1 and max-2 NMI of every factor over training. Where max-2 NMI rises, a second latent learns "
        "about a factor that already has one.",
        f"{TRAIN} +experiment=fig2_leakage",
        (training.leakage,),
    ),
    PaperFigure(
        "Fig. 3",
        "Information threshold",
        "Anneal test: the pressure falls, and at the threshold (dashed) the KL begins to stay above 0.1 nats.",
        "python -m deft_lightning.thresholds --multirun +experiment=dsprites",
        (thresholds.anneal_tests,),
    ),
    PaperFigure(
        "Fig. 5",
        "Coefficient of the secondary learning rate",
        "Max-1 and max-2 NMI of every factor by gamma, all from one checkpoint at the end of stage one.",
        f"{TRAIN} +experiment=fig5_gamma",
        (training.gamma,),
    ),
    PaperFigure(
        "Fig. 6",
        "Information thresholds of factors",
        "Thresholds of subsets in which only one factor varies. Red: the pressures of Table 1.",
        "python -m deft_lightning.thresholds factors --multirun +experiment=dsprites",
        (thresholds.factors,),
    ),
    PaperFigure(
        "Fig. 7",
        "Scores by method and data set",
        "Every method at its best swept value, chosen by mean MIG. A point is a run, the bar the median, the small "
        "number the number of runs; left of the dashed line (MIG 0.1) a run counts as failed.",
        f"{TRAIN} +sweep=paper",
        (distributions.scores,),
    ),
    PaperFigure(
        "Fig. 8",
        "DEFT stage by stage",
        "MIG at the end of every stage; a thin line joins the stages of one run.",
        f"{TRAIN} +experiment=dsprites,color_dsprites,scream_dsprites,smallnorb 'seed=range(10)'",
        (distributions.stages,),
    ),
    PaperFigure(
        "Fig. 9",
        "Reconstruction error",
        "Bernoulli negative log likelihood, summed over pixels and channels: lower is better, and data sets are not "
        "comparable with each other.",
        f"{TRAIN} +sweep=paper",
        (distributions.reconstruction,),
    ),
    PaperFigure(
        "Fig. 10",
        "Piecewise pressures with one normal encoder",
        "MIG by stage, and the NMI of the first latent with every factor over training; dashed lines are stage ends.",
        f"{TRAIN} +experiment=fig10_normal_encoder",
        (distributions.normal_encoder, training.first_latent),
    ),
    PaperFigure(
        "Fig. 11",
        "Several encoders under one constant pressure",
        "MIG of β-VAE with one group of encoders and with several, under the same pressure.",
        f"{TRAIN} +experiment=fig11_constant_pressure",
        (distributions.constant_pressure,),
    ),
    PaperFigure(
        "Fig. 12",
        "Where the KL goes",
        "Index-code mutual information (MI), total correlation (TC) and dimension-wise KL (DWKL) over training.",
        f"{TRAIN} +experiment=fig12_annealed_decomposition",
        (training.decomposition,),
    ),
    PaperFigure(
        "Fig. 13",
        "DEFT on total correlation",
        "MIG of β-VAE, DEFT and DEFT (TC), each at its best swept value.",
        f"{TRAIN} +experiment=fig13_deft_tc",
        (distributions.variants,),
    ),
    PaperFigure(
        "Fig. 14",
        "Traversals of the best run",
        "One row a latent, the most informative first, titled with the factor it tells most about.",
        f"{TRAIN} +experiment=dsprites,color_dsprites,scream_dsprites,smallnorb 'seed=range(10)'",
        (pictures.traversals,),
    ),
)
