"""Names, order, colours and units of methods, data sets and scores, and the numbers of the paper."""

from __future__ import annotations

from functools import cache
from typing import Any
from zlib import crc32

import yaml

from deft_lightning.common import results
from deft_lightning.common.conf import config_folder
from deft_lightning.common.method import Method

FAILED_BELOW = 0.1
"""A run counts as failed when its MIG is lower (section 6.2 of the paper)."""

METHODS = ("DEFT", "DEFT (TC)", "beta-VAE", "FactorVAE", "DIP-VAE-I", "DIP-VAE-II", "beta-TCVAE", "AnnealedVAE")
"""Labels of the paper's methods in the order of tables and figures; others follow alphabetically."""
NORMAL_ENCODER = Method("beta-VAE", stages=2).label
"""The ablation of Fig. 10: piecewise pressures with one group."""

DATASETS = {
    "dsprites": "dSprites",
    "color_dsprites": "Color dSprites",
    "noisy_dsprites": "Noisy dSprites",
    "scream_dsprites": "Scream dSprites",
    "smallnorb": "SmallNORB",
    "shapes3d": "3D Shapes",
    "cars3d": "Cars3D",
    "mpi3d_toy": "MPI3D toy",
    "mpi3d_realistic": "MPI3D realistic",
    "mpi3d_real": "MPI3D real",
    "mpi3d_real_complex": "MPI3D real complex",
}

SCORES = {
    "mig": "MIG",
    "dci_disentanglement": "DCI disentanglement",
    "modularity": "Modularity",
    "factor_vae": "FactorVAE score",
    "sap": "SAP",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
    "explicitness": "Explicitness",
    "beta_vae": "β-VAE score",
    "irs": "IRS",
    "infomec_modularity": "InfoMEC modularity",
    "infomec_compactness": "InfoMEC compactness",
    "infomec_explicitness": "InfoMEC explicitness",
    "active_units": "Active units",
    "reconstruction": "Reconstruction error (nats)",
    "kl": "KL (nats)",
    "total_correlation": "Total correlation (nats)",
}
MAIN_SCORES = ("mig", "dci_disentanglement", "modularity", "factor_vae", "sap")
"""The usual scores, which the page shows first; the others are folded away."""

FAILURE_RATES = {  # Table 2, in percent
    "dsprites": (8.0, 47.7, 11.0, 76.0, 87.0, 18.7, 61.7),
    "color_dsprites": (0.0, 36.0, 16.7, 78.0, 89.3, 23.7, 47.7),
    "scream_dsprites": (12.0, 34.3, 66.7, 80.3, 89.0, 43.7, 100.0),
    "smallnorb": (0.0, 0.0, 0.0, 28.7, 0.0, 0.0, 88.0),
}
TABLE_2_COLUMNS = ("DEFT", "beta-VAE", "FactorVAE", "DIP-VAE-I", "DIP-VAE-II", "beta-TCVAE", "AnnealedVAE")

GAMMA_STUDY = "fig5_gamma"
"""Name of the experiment of Fig. 5, whose runs share their first stage."""

# The palette of Okabe and Ito, safe for colour-blind readers, and Tol's palette for the rest.
_COLOURS = {
    "DEFT": "#0072b2",
    "DEFT (TC)": "#56b4e9",
    "beta-VAE": "#d55e00",
    "FactorVAE": "#009e73",
    "DIP-VAE-I": "#cc79a7",
    "DIP-VAE-II": "#882255",
    "beta-TCVAE": "#e69f00",
    "AnnealedVAE": "#767676",
    "beta-VAE, 2 groups": "#999933",
    "beta-VAE, piecewise": "#44aa99",
}
_OTHER_COLOURS = ("#332288", "#117733", "#aa4499", "#661100")


@cache
def table_1() -> dict[str, dict[str, list[Any]]]:
    """Table 1 of the paper, from conf/table1: {data set: {latents, epochs, pressures}}."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in (config_folder() / "table1").glob("*.yaml")}


def is_part(name: str) -> bool:
    """Whether no distribution of scores includes a run of that name: one of the gamma study, or stages that runs share.

    The runs of the gamma study have a first stage in common; the run of shared stages ends after them.
    """
    return name.startswith(GAMMA_STUDY) or name.endswith(results.SHARED_STAGES)


def failure_rate(method: str, dataset: str) -> float | None:
    """Table 2 of the paper: percent of runs that fail; None where the paper has no number."""
    rates = FAILURE_RATES.get(dataset)
    return rates[TABLE_2_COLUMNS.index(method)] if rates and method in TABLE_2_COLUMNS else None


def method_order(methods: set[str]) -> list[str]:
    """The paper's methods in the paper's order, then the others by name."""
    return [m for m in METHODS if m in methods] + sorted(methods - set(METHODS))


def colours(methods: list[str]) -> dict[str, str]:
    """The colour of each method, the same in every figure."""
    return {m: _COLOURS.get(m) or _OTHER_COLOURS[crc32(m.encode()) % len(_OTHER_COLOURS)] for m in methods}


def shown(text: str) -> str:
    """A label as it is printed: with the Greek letter beta."""
    return text.replace("beta-", "β-")


def score_label(name: str) -> str:
    """The name of a score with its unit, as on an axis."""
    return SCORES.get(name, name.replace("_", " "))


def score_order(names: set[str]) -> list[str]:
    """The scores in `SCORES` in that order, then the others by name."""
    return [s for s in SCORES if s in names] + sorted(names - set(SCORES))
