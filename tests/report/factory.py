"""Invented records in the form that real runs write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deft_lightning.common.method import Method
from deft_lightning.common.results import SCHEMA_VERSION

FACTORS = ("shape", "scale", "orientation", "posX", "posY")
MIG = {  # centre and spread of the MIG of a method
    "DEFT": (0.34, 0.05),
    "DEFT (TC)": (0.33, 0.05),
    "beta-VAE": (0.16, 0.09),
    "FactorVAE": (0.24, 0.09),
    "DIP-VAE-I": (0.08, 0.05),
    "DIP-VAE-II": (0.06, 0.04),
    "beta-TCVAE": (0.22, 0.08),
    "AnnealedVAE": (0.13, 0.07),
    "beta-VAE, piecewise": (0.2, 0.08),
    "beta-VAE, 2 groups": (0.13, 0.07),
}
PIECEWISE = {
    "dsprites": ([2, 2, 4, 15], [70, 30, 12, 1]),
    "color_dsprites": ([2, 2, 4, 15], [160, 105, 30, 1]),
    "scream_dsprites": ([4, 15], [140, 1]),
    "smallnorb": ([20, 40, 40, 400], [30, 5, 3, 1]),
}
OBJECTIVES = {  # labels to public names
    "DEFT (TC)": "deft_tc",
    "beta-VAE": "beta_vae",
    "FactorVAE": "factor_vae",
    "DIP-VAE-I": "dip_vae_i",
    "DIP-VAE-II": "dip_vae_ii",
    "beta-TCVAE": "beta_tcvae",
    "AnnealedVAE": "annealed_vae",
}
OTHER_SCORES = (
    "modularity", "explicitness", "dci_disentanglement", "dci_completeness", "dci_informativeness", "sap",
    "factor_vae", "beta_vae", "irs", "infomec_modularity", "infomec_compactness", "infomec_explicitness",
)  # fmt: skip


def result(
    method: str = "DEFT",
    dataset: str = "dsprites",
    seed: int = 0,
    pressure: float = 6,
    source: str = "rendered",
    history: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    """The content of a results.json of a finished run; `method` is a label, `fields` replace top-level fields."""
    random = np.random.default_rng([seed, sum(map(ord, method + dataset)), int(pressure)])
    staged = method.startswith("DEFT") or "piecewise" in method
    epochs, pressures = PIECEWISE[dataset] if staged else ([23], [pressure])
    groups = len(epochs) if method.startswith("DEFT") else 2 if "groups" in method else 1
    boundaries = [int(11_520 * total) for total in np.cumsum(epochs)]
    centre, spread = MIG.get(method, (0.2, 0.1))
    final = float(np.clip(random.normal(centre - 0.01 * abs(pressure - 6), spread), 0.005, 0.6))
    migs = [final * (0.6 + 0.4 * (j + 1) / len(epochs)) for j in range(len(epochs))]
    schedule: dict[str, Any] = {"name": "piecewise", "epochs": epochs, "pressures": pressures}
    if not staged:
        schedule = {"name": "constant", "epochs": 23, "pressure": pressure}
    objective = "beta-VAE" if method in ("DEFT", "beta-VAE, piecewise", "beta-VAE, 2 groups") else method
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "status": "finished",
        "reason": None,
        "name": method.lower().replace("-", "_"),
        "method": Method(objective, groups, len(epochs)).record(),
        "seed": seed,
        "run_id": f"{seed:08x}",
        "config_digest": f"{method}-{dataset}-{pressure}-{seed}",
        "training": {
            "data": {"name": dataset, "source": "auto"},
            "groups": {"latents": {1: [10], 2: [5, 5], 4: [3, 3, 2, 2]}[groups], "gamma": 0.1},
            "schedule": {**schedule, "fraction": 1.0},
            "objective": {"name": OBJECTIVES.get(objective, f"mine:{objective}")},
            "networks": {"name": "burgess"},
            "likelihood": {"name": "bernoulli"},
            "optimizer": {"name": "adam"},
            "scale": {"name": "paper", "fraction": 1.0, "num_points": 10_000},
            "seed": seed,
            "batch_size": 64,
            "lr": 5e-4,
        },
        "versions": {"python": "3.11.9", "deft_lightning": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "command": "python -m deft_lightning",
        "started": f"2026-01-{1 + seed % 28:02d}T12:00:00+0000",
        "data": _data(dataset, source),
        "boundaries": boundaries,
        "steps": boundaries[-1],
        "precision": "32-true",
        "device": "cpu",
        "threads": 2,
        "peak_memory_mb": 1234.5,
        "images_per_second": 4480.0,
        "timings": {"train_seconds": 3600.5, "steps_per_second": 70.1},
        "stages": {
            f"stage_{j + 1}": _stage(random, migs[j], boundaries[j], pressures[j], j + 1, last=j + 1 == len(epochs))
            for j in range(len(epochs))
        },
        "udr": {"score": float(np.clip(final + random.normal(0, 0.05), 0, 1)), "method": "spearman", "runs": 10},
    }
    if history:
        content["history"] = _history(random, boundaries[-1], final)
    return {**content, **fields}


def anneal(dataset: str = "dsprites", source: str = "rendered") -> dict[str, Any]:
    """The content of a thresholds.json of an anneal test."""
    step = np.arange(0, 10_001, 100)
    kl = np.where(step > 7400, (step - 7400) / 500, 0.01)
    shares = np.linspace(2, 0.1, 10) / np.linspace(2, 0.1, 10).sum()
    return {
        "kind": "anneal",
        "data": _data(dataset, source),
        "schema_version": 1,
        "finished": True,
        "settings": {"beta_high": 200.0, "steps": 10_000, "batch_size": 64, "lr": 5e-4, "limit": 0.1, "window": 300},
        "notices": [],
        "curves": [
            {
                "step": step.tolist(),
                "beta": np.maximum(200 * (1 - step / 10_000), 1).tolist(),
                "reconstruction": (300 - 30 * kl).tolist(),
                "kl": kl.tolist(),
                "kl_per_latent": np.outer(kl, shares).tolist(),
            }
        ],
        "threshold": {"step": 7400, "pressure": 52.0},
        "latent_thresholds": [52.0, 50.0, 47.5, 45.0, 42.5, 40.0, 35.0, 30.0, 20.0, None],
    }


def factor_thresholds(dataset: str = "dsprites", source: str = "rendered") -> dict[str, Any]:
    """The content of a thresholds.json with the thresholds of factors; one subset of each never crossed."""
    random = np.random.default_rng(3)
    centres = dict(zip(FACTORS, (10, 40, 9, 90, 92), strict=True))
    return {
        "kind": "factors",
        "data": _data(dataset, source),
        "schema_version": 1,
        "finished": True,
        "factors": {name: [*random.normal(c, 0.12 * c, 49).tolist(), None] for name, c in centres.items()},
        "pressures": None,
    }


def write(folder: Path, content: dict[str, Any], picture: bool = False, name: str = "results.json") -> Path:
    """Write a record into `folder`, with `picture` also a picture of traversals; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    if picture:
        (folder / "figures").mkdir(exist_ok=True)
        shades = np.linspace(0, 255, 600 * 700, dtype=np.uint8).reshape(600, 700)
        stage = len(content["stages"])
        Image.fromarray(shades).save(folder / "figures" / f"traversals_stage_{stage}.png")
    return folder


def sweep(folder: Path, methods: Sequence[str], datasets: Sequence[str], seeds: int, pressures: Sequence[float]) -> int:
    """Write runs of all methods, data sets and seeds, baselines at all pressures; returns their number."""
    count = 0
    for dataset in datasets:
        for method in methods:
            staged = method.startswith("DEFT") or "piecewise" in method
            for pressure in [6.0] if staged or "groups" in method else pressures:
                for seed in range(seeds):
                    content = result(method, dataset, seed, pressure, history=seed == 0)
                    write(folder / f"{count}_{dataset}_seed{seed}", content, picture=method == "DEFT")
                    count += 1
    return count


def proposal(dataset: str = "dsprites", source: str = "rendered") -> dict[str, Any]:
    """The content of a thresholds.json of pressures proposed without labels."""
    return {
        "kind": "proposal",
        "schema_version": 1,
        "finished": True,
        "data": _data(dataset, source),
        "seeds": [0, 1, 2],
        "proposal": {"pressures": [66.5, 28.0, 1.0], "epochs": [2, 4, 15], "stable": True},
    }


def _data(dataset: str, source: str) -> dict[str, Any]:
    background = {"background": "generated"} if dataset == "scream_dsprites" else {}
    return {
        "name": dataset, "images": 737_280, "shape": [1, 64, 64], "factors": list(FACTORS),
        "factor_sizes": [3, 6, 40, 32, 32], "source": source, **background, "notices": [],
    }  # fmt: skip


def _stage(random: np.random.Generator, mig: float, step: int, pressure: float, number: int, last: bool) -> dict:
    scores = {"reconstruction": float(random.normal(60, 5)), "kl": float(random.normal(14, 2)), "mig": mig}
    if last:
        scores |= {name: float(np.clip(0.3 + mig + random.normal(0, 0.08), 0, 1)) for name in OTHER_SCORES}
        scores |= {"active_units": int(random.integers(5, 10)), "total_correlation": float(random.gamma(2, 0.5))}
    nmi = random.uniform(0, 0.2, (10, 5))
    return {
        "step": step,
        "pressure": pressure,
        "kl_per_latent": random.uniform(0, 3, 10).tolist(),
        "nmi": nmi.tolist(),
        "max1_nmi": dict(zip(FACTORS, (0.4 + random.uniform(0, 0.4, 5)).tolist(), strict=True)),
        "max2_nmi": dict(zip(FACTORS, random.uniform(0, 0.3, 5).tolist(), strict=True)),
        "scores": scores,
        "pictures": {"traversals": f"figures/traversals_stage_{number}.png"},
    }


def _history(random: np.random.Generator, last: int, mig: float) -> dict[str, Any]:
    steps = np.linspace(last / 23, last, 23).astype(int)
    grow = 1 - np.exp(-np.arange(1, 24) / 6)

    def factors(scale: float) -> list[dict[str, float]]:
        table = scale * grow[:, None] * random.uniform(0.5, 1, (23, 5))
        return [dict(zip(FACTORS, row, strict=True)) for row in table.tolist()]

    first, second, latent = factors(0.9), factors(0.35), factors(0.7)
    return {
        "nmi": {
            str(step): {
                "mig": mig * grow[i] + random.normal(0, 0.01), "loss": 160 - 40 * grow[i] + random.normal(0, 1),
                "max1": first[i], "max2": second[i], "first_latent": latent[i],
            }
            for i, step in enumerate(steps)
        },
        "kl_decomposition": {
            str(step): {"mi": 5 * grow[i], "tc": 0.8 * grow[i], "dwkl": 8 * grow[i] ** 2, "kl": 13.8 * grow[i]}
            for i, step in enumerate(steps)
        },
    }  # fmt: skip
