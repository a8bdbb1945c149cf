"""Where the next latent opens: against the spectrum of the images, closed forms, and a training that goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deft_lightning import DEFT, BetaVAE, DeftError, Gaussian, Groups, Piecewise
from deft_lightning.data.spectrum import spectrum_of
from deft_lightning.model.networks import Posterior
from deft_lightning.thresholds import later
from deft_lightning.thresholds.fall import Fall
from deft_lightning.training import run
from tests.helpers import BARE, compose_run


class Squares:
    """2,000 images of two squares: one has `values` grey values, the other 16; the grey values are independent."""

    name, device, shape, reader = "squares", torch.device("cpu"), (1, 64, 64), None

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.grey = torch.as_tensor(random.uniform(0.2, 0.8, (2_000, 2)), dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.grey)

    def images(self, indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        images = torch.full((len(indices), *self.shape), 0.5)
        images[:, 0, :10, :10] = self.grey[indices, 0, None, None]  # 100 pixels
        images[:, 0, 20:25, 20:30] = self.grey[indices, 1, None, None]  # 50 pixels
        return images


class Reads(DEFT):
    """A model whose first `known` latents are the grey values of the squares, read without noise; the rest is the mean.

    `bent`: the decoder adds to the second square what depends on the first.
    """

    def __init__(self, known: int, likelihood=None) -> None:
        super().__init__(Groups([4]), Piecewise([1], [1]), BetaVAE(), image_shape=(1, 64, 64), likelihood=likelihood)
        self.known = known

        class Decoder(nn.Module):
            def forward(self, latents: torch.Tensor) -> torch.Tensor:
                mean = torch.full((len(latents), 1, 64, 64), 0.5)
                if known > 0:
                    mean[:, 0, :10, :10] = 0.5 + 0.1 * latents[:, 0, None, None]
                return torch.logit(mean)

        self.decoder = Decoder()

    def infer(self, images: torch.Tensor) -> Posterior:
        mean, log_variance = torch.zeros(len(images), 4), torch.zeros(len(images), 4)
        if self.known:
            mean[:, 0], log_variance[:, 0] = (images[:, 0, 0, 0] - 0.5) / 0.1, -8.0
        return Posterior(mean, log_variance)


SIGMA = 0.1
WORTH = {"large": 100 * 0.6**2 / 12 / SIGMA**2, "small": 50 * 0.6**2 / 12 / SIGMA**2}
"""Pixels times the variance of a uniform grey value over sigma^2: the eigenvalues of the two squares."""


def test_without_an_open_latent_it_is_the_first_eigenvalue_of_the_images() -> None:
    found = later.predict(Reads(0, Gaussian(SIGMA)), Squares())
    expected = spectrum_of(Squares(), noise_variance=SIGMA**2).eigenvalues[0]
    assert found.open == 0
    assert found.fixed == found.adapted == pytest.approx(expected, rel=0.02)
    assert found.fixed == pytest.approx(WORTH["large"], rel=0.03)


def test_with_the_large_square_known_the_small_one_is_next() -> None:
    found = later.predict(Reads(1, Gaussian(SIGMA)), Squares())
    assert found.open == 1
    assert found.fixed == pytest.approx(WORTH["small"], rel=0.03)
    assert found.adapted == pytest.approx(WORTH["small"], rel=0.1)  # of 64 images each


class Conditional(Squares):
    """The second square is bright where the third is dark, and the other way round where the first is bright."""

    def images(self, indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        images = super().images(indices, generator)
        sign = (self.grey[indices, 0] > 0.5).float() * 2 - 1
        images[:, 0, 20:25, 20:30] = 0.5
        images[:, 0, 40:45, :10] = (0.5 + (self.grey[indices, 1] - 0.5))[:, None, None]
        images[:, 0, 50:55, :10] = (0.5 + sign * (self.grey[indices, 1] - 0.5))[:, None, None]
        return images


def test_a_decoder_whose_answer_depends_on_the_codes_opens_earlier() -> None:
    """For any code of the first square 100 pixels move together; over all codes only half of them do."""
    found = later.predict(Reads(1, Gaussian(SIGMA)), Conditional())
    assert found.fixed == pytest.approx(WORTH["small"], rel=0.05)
    assert found.adapted == pytest.approx(2 * WORTH["small"], rel=0.1)


def test_bernoulli_residuals_are_standardised_and_certain_pixels_left_out() -> None:
    x = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 2)
    p = torch.tensor([0.5, 0.2, 0.999, 0.001]).view(1, 1, 2, 2)
    y = later.standardised(x, p, None)
    assert y.flatten().tolist() == pytest.approx([1.0, -0.5, 0.0, 0.0])
    assert later.standardised(x, p, 0.25).flatten().tolist() == pytest.approx([1.0, -0.4, 0.002, -0.002], abs=1e-6)


def test_the_variance_of_few_images_of_many_pixels_is_not_overestimated() -> None:
    """White noise: the largest eigenvalue of one sample of 32 images of 4,096 pixels is near 100, the true one is 1."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 4096, generator=random)
    assert torch.linalg.svdvals(noise[:32])[0] ** 2 / 32 > 100
    assert later.shared_variance(noise[:32], noise[32:]) == pytest.approx(1, abs=0.3)
    signal = noise + 20 * torch.randn(64, 1, generator=random) * nn.functional.normalize(torch.ones(1, 4096))
    assert 250 < later.shared_variance(signal[:32], signal[32:]) < 450


def test_images_that_are_held_out_are_not_looked_at() -> None:
    class Seen(Squares):
        def images(self, indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            seen.update(indices.tolist())
            return super().images(indices, generator)

    seen: set[int] = set()
    later.predict(Reads(0, Gaussian(SIGMA)), Seen(), images=torch.arange(5, 105))
    assert seen == set(range(5, 105))


def test_small_data_are_one_sentence() -> None:
    few = Squares()
    few.grey = few.grey[:20]
    with pytest.raises(DeftError, match="has 20 images"):
        later.predict(Reads(0), few)


def test_the_pressure_falls_geometrically_from_the_end_of_the_stage() -> None:
    schedule = Fall(groups=4, index=2, begin=30, steps=10, high=100)
    timeline = schedule.timeline(7)
    assert [timeline.at(step).index for step in (29, 30, 39)] == [0, 2, 2]
    assert [round(timeline.at(step).pressure, 6) for step in (30, 35, 40)] == [100, 10, 1]
    assert timeline.length >= 40


@pytest.mark.acceptance  # trains a run, and goes on from three of its stages
def test_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run.train(*compose_run(folder, *BARE))
    command = [sys.executable, "-m", "deft_lightning.thresholds", "later"]
    done = subprocess.run(
        [*command, str(folder), "--fall", "5", "--trust"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "later.json").read_text())
    assert [row["stage"] for row in rows] == [1, 2, 3]
    assert all(row["steps"] == 5 and row["fixed"] > 0 for row in rows)
    assert "opened below" in done.stdout
    content = json.loads((folder / "results.json").read_text())
    del content["stages"]["stage_1"]  # as of a run that starts from the weights of another
    (folder / "results.json").write_text(json.dumps(content))
    subprocess.run([*command, str(folder), "--trust"], capture_output=True, check=True)
    again = json.loads((folder / "later.json").read_text())
    assert [(row["stage"], row["fixed"]) for row in again] == [(row["stage"], row["fixed"]) for row in rows[1:]]
    failed = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert len(failed.stderr.splitlines()) == 1
