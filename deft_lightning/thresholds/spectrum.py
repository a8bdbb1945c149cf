"""The spectrum of a data set as a measurement: eigenvalues, their picture, and which of them are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from deft_lightning.common import results
from deft_lightning.data.spectrum import RARE, Spectrum, alike, spectrum_of
from deft_lightning.model.schedules.anneal import Anneal
from deft_lightning.report.figures.spectrum import spectrum_figure
from deft_lightning.thresholds import record
from deft_lightning.thresholds.measurement import measurement
from deft_lightning.training import build, config
from deft_lightning.training.figures import save_figure
from deft_lightning.training.resolution import noise_variance


def measure(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Compute the spectrum of the data of `cfg`; writes thresholds.json and figures/spectrum.png.

    Returns the content of thresholds.json. Raises `DeftError` for images without a spectrum, such as equal ones.
    """
    with measurement(cfg, folder, {}, {}) as dataset:
        likelihood = config.build_choices(cfg).likelihood
        images = build.data_module(cfg, dataset).training_images
        found = spectrum_of(dataset, cfg.seed, noise_variance(likelihood), images=images)
        eigenvalues = [float(f"{value:.4g}") for value in found.eigenvalues]
        beta_high = float(f"{Anneal.MARGIN * found.eigenvalues[0]:.4g}")
        content = {
            "kind": "spectrum",
            "finished": True,
            "data": dataset.description,
            "settings": {
                "seed": cfg.seed,
                "images": found.images,
                "pixels": found.pixels,
                "likelihood": likelihood.label,
            },
            "notices": _notices(found, dataset.shape, beta_high),
            "eigenvalues": eigenvalues,
            "alike": [[place + 1 for place in group] for group in alike(eigenvalues)],
            "beta_high": beta_high,
        }
        record.write(folder, content)
        save_figure(spectrum_figure(content, found.directions, dataset.name), folder, "spectrum")
        results.update(folder, thresholds={"kind": "spectrum", "file": record.FILE, "eigenvalues": eigenvalues})
    return content


def _notices(found: Spectrum, shape: tuple[int, int, int], beta_high: float) -> list[str]:
    groups = [[str(place + 1) for place in group] for group in alike(list(found.eigenvalues))]
    sentences = [
        f"{', '.join(group[:-1])} and {group[-1]} are alike: a model may learn them rotated, by any angle."
        for group in groups
    ]
    values = shape[0] * shape[1] * shape[2]
    if found.pixels < values:
        sentences.append(
            f"{values - found.pixels:,} of {values:,} pixels are left out: their mean is below {RARE:g} or above "
            f"{1 - RARE:g}."
        )
    sentences.append(
        f"schedule.beta_high=null takes {Anneal.MARGIN:g} times the first of seed 0; here that is {beta_high:g}."
    )
    return sentences
