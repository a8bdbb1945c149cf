"""The figures of the paper, drawn from a study: captions, and the commands that train the runs they need."""

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
        "Runs with a MIG below 0.1 or that diverged, with 95% Wilson intervals. The best value is the swept value with "
        "the highest mean MIG, chosen on the same runs.",
        f"{TRAIN} +sweep=paper",
        (failures.failure_rates,),
    ),
    PaperFigure(
        "Fig. 1",
        "Differences between runs of one baseline",
        "MIG of every run at the swept value with the highest mean MIG. Each point is a run and each bar a median; the "
        "small number is the number of runs. Runs left of the dashed line (MIG 0.1) count as failed.",
        f"{TRAIN} +sweep=baselines",
        (distributions.baselines,),
    ),
    PaperFigure(
        "Fig. 2",
        "Failure pattern: leakage over training",
        "Loss, MIG, and for every factor the NMI with its two most informative latents (max-1 and max-2) over "
        "training. Where max-2 NMI rises, a second latent learns about the same factor.",
        f"{TRAIN} +experiment=fig2_leakage",
        (training.leakage,),
    ),
    PaperFigure(
        "Fig. 3",
        "Information threshold",
        "Anneal test: the pressure β falls from step to step. At the threshold the total KL, averaged over some steps, "
        "begins to stay above the limit.",
        "python -m deft_lightning.thresholds --multirun +experiment=dsprites",
        (thresholds.anneal_tests,),
    ),
    PaperFigure(
        "Fig. 5",
        "Coefficient of the secondary learning rate",
        "Max-1 and max-2 NMI of every factor by gamma. All runs start from one checkpoint at the end of stage one.",
        f"{TRAIN} +experiment=fig5_gamma",
        (training.gamma,),
    ),
    PaperFigure(
        "Fig. 6",
        "Information thresholds of factors",
        "Each point is the threshold of a subset in which only one factor varies. Red lines are the pressures of "
        "Table 1, or of the experiment for other data.",
        "python -m deft_lightning.thresholds factors --multirun +experiment=dsprites",
        (thresholds.factors,),
    ),
    PaperFigure(
        "Fig. 7",
        "Scores by method and data set",
        "Every method at its best swept value, chosen by mean MIG. Each point is a run and each bar a median; the "
        "small number is the number of runs. Runs left of the dashed line (MIG 0.1) count as failed.",
        f"{TRAIN} +sweep=paper",
        (distributions.scores,),
    ),
    PaperFigure(
        "Fig. 8",
        "DEFT stage by stage",
        "MIG at the end of every stage. A thin line joins the stages of one run.",
        f"{TRAIN} +experiment=dsprites,color_dsprites,scream_dsprites,smallnorb 'seed=range(10)'",
        (distributions.stages,),
    ),
    PaperFigure(
        "Fig. 9",
        "Reconstruction error",
        "Negative log likelihood, summed over pixels and channels. Lower is better; values of different data sets "
        "cannot be compared, nor those of different likelihoods: Bernoulli where the method names no other.",
        f"{TRAIN} +sweep=paper",
        (distributions.reconstruction,),
    ),
    PaperFigure(
        "Fig. 10",
        "Piecewise pressures with one encoder group",
        "MIG at the end of every stage, and the NMI of the first latent with every factor over training. Dashed lines "
        "are the ends of stages.",
        f"{TRAIN} +experiment=fig10_normal_encoder",
        (distributions.normal_encoder, training.first_latent),
    ),
    PaperFigure(
        "Fig. 11",
        "Several encoder groups under one constant pressure",
        "MIG of β-VAE with one encoder group and with several, under the same pressure.",
        f"{TRAIN} +experiment=fig11_constant_pressure",
        (distributions.constant_pressure,),
    ),
    PaperFigure(
        "Fig. 12",
        "The parts of the KL",
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
        "One row for each latent, the most informative first, labelled with the factor of highest NMI.",
        f"{TRAIN} +experiment=dsprites,color_dsprites,scream_dsprites,smallnorb 'seed=range(10)'",
        (pictures.traversals,),
    ),
)
