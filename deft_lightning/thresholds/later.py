"""Where the next latent opens once some are open: the spectrum of what a trained model leaves unexplained.

A model with open latents gives every image x a mean p(x). Let one more latent carry a little signal f(x), of mean 0 and
variance 1 among the images that share the codes of the open latents. With the standardised residuals

    y = (x - p(x)) / sqrt(p(x) (1 - p(x)))    for Bernoulli pixels
    y = (x - p(x)) / sigma                    for Gaussian ones

the expansion of docs/thresholds.md gives two pressures between which the latent opens:

    fixed      the largest eigenvalue of Cov(y) over all images: the decoder answers the new latent alike for all codes
    adapted    the largest eigenvalue of Cov(y) among images with nearly the same codes, averaged over such
               neighbourhoods: the decoder's answer may be another one for every code

The first is what a decoder can do at once, the second what it can do once it has learnt to combine the latents.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import rich
import torch
from torch import Tensor

from deft_lightning.common import checks, files, results
from deft_lightning.common.console import new_table, quieten
from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, generator
from deft_lightning.data.base import FactorDataset
from deft_lightning.model.module import DEFT
from deft_lightning.model.networks import Posterior
from deft_lightning.thresholds import fall
from deft_lightning.thresholds.crossing import LIMIT
from deft_lightning.training.load import load_data, load_model
from deft_lightning.training.resolution import noise_variance

IMAGES = 20_000
"""Images among which neighbours are looked for. Of a smaller data set all are taken."""
ANCHORS, NEIGHBOURS = 64, 64
"""Neighbourhoods, and images in each."""
HALF = 4_000
"""Images that give the direction over all images; as many others give the variance along it."""
RARE = 0.01
"""A Bernoulli pixel whose p(x) is below this, or above 1 less this, is left out."""
BATCH = 500
FILE = "later.json"


@dataclass(frozen=True)
class Prediction:
    """Where the next latent opens, after a stage.

    Attributes:
        open: number of latents with a KL above 0.1 nats.
        fixed, adapted: pressures between which the next latent opens, see above.
    """

    open: int
    fixed: float
    adapted: float


def run(folder: Path, steps: int | None, trust: bool = False) -> None:
    """Predict, for every stage of a run but its last, where the next latent opens; print a table and write later.json.

    Args:
        folder: the run folder.
        steps: for how many steps the training goes on from the end of every stage with falling pressure, to see where
            the next latent opens; None to train nothing.
        trust: whether to import classes from outside this package that the run uses.

    Raises:
        DeftError: where there is no such run, its data or its likelihood have no spectrum, or `steps` is out of range.
    """
    quieten()
    if steps is not None:
        checks.whole("--fall", steps, 1)
    record = results.read(folder)
    ends = {name: stage["pressure"] for name, stage in record.get("stages", {}).items() if "pressure" in stage}
    stages = [name for name in list(ends)[:-1] if (folder / "checkpoints" / f"{name}.ckpt").exists()]
    if not stages:
        raise DeftError(f"{folder} has no two stages with checkpoints: give the folder of a run with several stages.")
    data = load_data(folder, trust)
    table = new_table("after stage", "pressure", "open latents", "fixed", "adapted", "opened below")
    rows = []
    for name in stages:
        number = int(name.removeprefix("stage_"))
        prediction = predict(load_model(folder, number, trust), data.dataset, data.seed, data.training_images)
        row: dict[str, Any] = {"stage": number, "pressure": ends[name], **asdict(prediction)}
        if steps is not None:
            checkpoint = folder / "checkpoints" / f"{name}.ckpt"
            row["steps"], row["opened"] = steps, fall.next_opening(checkpoint, data, number, ends[name], steps, trust)
        rows.append(row)
        opened = "" if steps is None else "never" if row["opened"] is None else f"{row['opened']:.1f}"
        numbers = f"{prediction.fixed:.1f}", f"{prediction.adapted:.1f}"
        table.add_row(str(number), f"{row['pressure']:g}", str(prediction.open), *numbers, opened)
    files.write_text(folder / FILE, json.dumps(rows, indent=1) + "\n")
    rich.get_console().print(f"\n[bold]Where the next latent opens[/], {record['name']}, seed {record['seed']}")
    rich.get_console().print(table)
    rich.get_console().print(f"\nNumbers: {folder / FILE}")


def predict(model: DEFT, dataset: FactorDataset, seed: int = 0, images: Tensor | None = None) -> Prediction:
    """Where the next latent of `model` opens on the images of `dataset`, or on those at the indices `images` [N].

    Raises `DeftError` for fewer than 32 images, and a likelihood whose spectrum is not known.
    """
    variance = noise_variance(model.likelihood)
    count = len(dataset) if images is None else len(images)
    if count < 32:
        raise DeftError(f"the data set has {count} images: neighbours among the codes need at least 32.")
    order = torch.randperm(count, generator=generator(seed, Stream.SPECTRUM, 2))[:IMAGES]
    indices = order if images is None else images[order]
    nuisances = generator(seed, Stream.SPECTRUM, 3, device=dataset.device)
    pixel_parts, means, widths = [], [], []
    for part in indices.split(BATCH):
        batch = dataset.images(part, nuisances)
        posterior = model.encode(batch)
        pixel_parts.append((batch * 255).round().to(torch.uint8).cpu())  # a quarter of the memory
        means.append(posterior.mean.cpu())
        widths.append(posterior.log_variance.cpu())
    pixels, mean, log_variance = torch.cat(pixel_parts), torch.cat(means), torch.cat(widths)
    is_open = Posterior(mean, log_variance).kl().mean(dim=0) > LIMIT

    def residuals(chosen: Tensor) -> Tensor:
        """The standardised residuals of the images at `chosen` [n], as [n, P]."""
        x = pixels[chosen].float() / 255
        return standardised(x, model.decode(mean[chosen]).cpu(), variance).flatten(1)

    half = min(HALF, len(pixels) // 2)
    fixed = shared_variance(residuals(torch.arange(half)), residuals(torch.arange(half, 2 * half)))
    if not is_open.any():
        return Prediction(0, fixed, fixed)
    # Distances in standard deviations of the posterior: what the decoder can tell apart.
    codes = mean[:, is_open] / (0.5 * log_variance[:, is_open].mean(dim=0)).exp()
    random = generator(seed, Stream.SPECTRUM, 4)
    near = min(NEIGHBOURS, len(codes) // 4)
    values = []
    for anchor in torch.randperm(len(codes), generator=random)[:ANCHORS]:
        neighbours = (codes - codes[anchor]).square().sum(dim=1).topk(near, largest=False).indices
        first, second = residuals(neighbours[torch.randperm(near, generator=random)]).chunk(2)
        values.append(shared_variance(first, second))
    return Prediction(int(is_open.sum()), fixed, sum(values) / len(values))


def standardised(x: Tensor, p: Tensor, noise_variance: float | None) -> Tensor:
    """The residuals of images `x` with means `p`, both [N, C, H, W]; 0 in Bernoulli pixels that are nearly certain."""
    if noise_variance is not None:
        return (x - p) / noise_variance**0.5
    kept = (p >= RARE) & (p <= 1 - RARE)
    return torch.where(kept, (x - p) / (p * (1 - p)).clamp(min=RARE * (1 - RARE)).sqrt(), 0.0)


def shared_variance(first: Tensor, second: Tensor) -> float:
    """The largest eigenvalue of a covariance, from two samples [n, P] and [m, P] of it.

    It is the variance of each sample along the main direction of the other. The largest eigenvalue of one sample is
    far above the true one where there are fewer images than pixels; this is slightly below it.
    """
    return (_variance(second, _direction(first)) + _variance(first, _direction(second))) / 2


def _direction(sample: Tensor) -> Tensor:
    """The first principal direction of `sample` [n, P], as [P]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.svd_lowrank(sample - sample.mean(dim=0), q=min(8, *sample.shape), niter=8)[2][:, 0]


def _variance(sample: Tensor, direction: Tensor) -> float:
    return float(((sample - sample.mean(dim=0)) @ direction).square().mean())
