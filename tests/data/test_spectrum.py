"""The spectrum: eigenvalues known from elsewhere, invariances, and what training does around the first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from deft_lightning import DEFT, BetaVAE, Constant, DeftError, Groups
from deft_lightning.data import spectrum as module
from deft_lightning.data.spectrum import Sample, alike, spectrum, spectrum_of
from deft_lightning.model.networks.base import Networks, Posterior
from tests.helpers import OneImage, TinySprites, TwoSquares, correlation_eigenvalues

SQUARE = torch.zeros(64, 1, 16, 16)
"""A white square of 9 x 9 pixels at all its 64 places in images of 16 x 16."""
for _index, _image in enumerate(SQUARE):
    _top, _left = divmod(_index, 8)
    _image[0, _top : _top + 9, _left : _left + 9] = 1


def linear_gaussian(variances: list[float], noise: float) -> Tensor:
    """1,000 images [1000, 2, 8, 8] whose covariance is exactly that of orthogonal directions and noise.

    The directions have `variances`, and each of the 128 pixels the variance `noise` besides.
    """
    random = np.random.default_rng(0)
    centred = random.normal(size=(1000, 128))
    centred -= centred.mean(axis=0)
    codes = np.linalg.qr(centred)[0] * 1000**0.5  # mean 0, covariance 1, exactly
    total = np.full(128, noise)
    total[: len(variances)] += variances
    rotation = np.linalg.qr(random.normal(size=(128, 128)))[0]
    return torch.tensor(0.5 + (codes * total**0.5) @ rotation.T).view(1000, 2, 8, 8).float()


def test_linear_gaussian_data_have_the_eigenvalues_they_were_made_with() -> None:
    """Cov(x) / sigma^2: signal and noise add up, in units of the noise of the decoder."""
    found = spectrum(linear_gaussian([4.0, 1.0, 0.25], noise=0.01).split(300), noise_variance=0.02)
    assert found.eigenvalues[:4] == pytest.approx([200.5, 50.5, 13, 0.5], rel=1e-4)
    lengths = np.linalg.norm(found.directions.reshape(10, -1), axis=1)
    assert lengths[:3] == pytest.approx([4.01**0.5, 1.01**0.5, 0.26**0.5], rel=1e-3)  # one standard deviation


@pytest.mark.parametrize("relative", [0.9, 0.99, 1.01, 1.1])
def test_a_linear_vae_is_open_at_its_optimum_exactly_below_the_eigenvalue(relative: float) -> None:
    """R + beta KL of one latent, minimised over encoder and decoder, is below that of the collapsed model, or equal.

    In the direction v of the code, with x = v s + ..., s of variance eigenvalue x sigma^2, the encoder has the mean a s
    and the variance t, the decoder adds w z: R = (var(s) (1 - a w)^2 + w^2 t) / (2 sigma^2), with constants left out.
    """
    (eigenvalue, *_), noise = spectrum([linear_gaussian([4.0], 0.0)], noise_variance=0.02).eigenvalues, 0.02
    variance, beta = eigenvalue * noise, relative * eigenvalue

    def loss(parameters: np.ndarray) -> float:
        a, w, log_t = parameters
        error = (variance * (1 - a * w) ** 2 + w**2 * np.exp(log_t)) / (2 * noise)
        return error + beta * 0.5 * (a**2 * variance + np.exp(log_t) - 1 - log_t)

    best = min(minimize(loss, start, tol=1e-12).fun for start in ([0.1, 0.1, -0.1], [0.4, 1, -1]))
    gain = variance / (2 * noise) - best
    assert gain > 1e-3 if relative < 1 else abs(gain) < 1e-6


@pytest.mark.parametrize("data", [TwoSquares(), TwoSquares(small=False), TinySprites()])
def test_binary_images_have_the_eigenvalues_of_their_correlations(data: TinySprites) -> None:
    """A dense decomposition of the Gram matrix, by numpy."""
    images = data.images(torch.arange(len(data)), torch.Generator())
    expected = correlation_eigenvalues(images[:, 0].double().numpy())[:10]
    for found in (spectrum(images.split(7)), spectrum_of(data)):
        assert found.eigenvalues == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_directions_are_the_covariance_of_code_and_pixels() -> None:
    """Of two squares of which one is independent of the other, a direction moves only the one that it belongs to."""
    data = TwoSquares()
    first, second = spectrum_of(data).directions[:2, 0]
    assert np.abs(first[46:]).max() < 1e-3 * np.abs(first).max()
    assert np.abs(second[:36]).max() < 1e-3 * np.abs(second).max()
    pixels = data.pixels.reshape(64, -1)
    mean = pixels.mean(axis=0)
    scale = np.sqrt(mean * (1 - mean)).clip(min=1e-9)
    code = (pixels - mean) / scale @ (first.reshape(-1) / scale)  # linear in the standardised pixels
    covariance = (pixels - mean).T @ (code / code.std()) / len(code)
    assert first.reshape(-1) == pytest.approx(covariance, abs=1e-3)


@pytest.mark.parametrize("change", ["order", "twice", "pixels", "flipped", "batches"])
def test_what_the_spectrum_does_not_depend_on(change: str) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.cat([SQUARE, SQUARE[:20] * 0.6])
    places = torch.randperm(256, generator=random)
    changed = {
        "order": lambda: [images[torch.randperm(len(images), generator=random)]],
        "twice": lambda: [images, images.flip(0)],
        "pixels": lambda: [images.flatten(1)[:, places].view_as(images)],
        "flipped": lambda: [1 - images],
        "batches": lambda: images.split(11),
    }[change]()
    before, after = spectrum([images]), spectrum(changed)
    assert after.eigenvalues == pytest.approx(before.eigenvalues, rel=1e-3)
    assert after.pixels == before.pixels


def test_rare_pixels_are_left_out_of_bernoulli_images_only() -> None:
    """One image of 2,000 has a block of 4 x 4 pixels that no other has: alone, it would be an eigenvalue of 16."""
    images = SQUARE.repeat(32, 1, 1, 1)[:2000]
    with_block = torch.zeros(2000, 1, 20, 16)
    with_block[:, :, :16] = images
    with_block[0, 0, 16:, :4] = 1
    found = spectrum([with_block])
    assert found.eigenvalues == pytest.approx(spectrum([images]).eigenvalues, rel=1e-4)
    assert (found.pixels, spectrum([images]).pixels) == (252, 252)
    assert np.abs(found.directions[:, 0, 16:]).max() == 0
    assert spectrum([with_block], noise_variance=0.1).pixels == 252 + 16
    kept = spectrum([with_block], rare=0)
    assert kept.pixels == 252 + 16
    assert np.abs(kept.eigenvalues - 16).min() < 0.5


def test_a_sample_is_the_same_at_every_pass_and_is_drawn_anew_by_another_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    colourful = TinySprites(channels=3)
    sample = Sample(colourful)
    once, again = torch.cat(list(sample)), torch.cat(list(sample))
    assert torch.equal(once, again)
    assert len(once) == 10 * 96  # every image equally often, with a colour of its own each time
    assert not torch.equal(once[:96], once[96:192])
    assert not torch.equal(once, torch.cat(list(Sample(colourful, seed=1))))
    monkeypatch.setattr(module, "MOST", 50)
    part = torch.cat(list(Sample(TinySprites())))
    assert len(part) == 50
    assert len(part.unique(dim=0)) == 50


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.ones(5, 1, 8, 8), "all images are the same"),
        (torch.eye(4096).view(-1, 1, 64, 64), "every pixel is the same in more than 99.9% of the images"),
        (torch.empty(0, 1, 8, 8), "there are no images"),
    ],
)
def test_images_without_a_spectrum_are_refused(images: Tensor, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        spectrum([images] if len(images) else [])
    with pytest.raises(DeftError, match="noise_variance is 0: give a number above 0"):
        spectrum([images], noise_variance=0)
    with pytest.raises(DeftError, match=r"rare is 0.6: give a number from 0 to 0.5"):
        spectrum([images], rare=0.6)


def test_a_refusal_names_the_data() -> None:
    with pytest.raises(DeftError, match=r"^one: all images are the same"):
        spectrum_of(OneImage())


def test_alike_are_neighbours_that_differ_by_less_than_a_twentieth() -> None:
    assert alike([199, 197, 161, 121, 120, 117, 99]) == [[0, 1], [3, 4, 5]]
    assert alike([100, 96, 92.5, 80]) == [[0, 1, 2]]
    assert alike([100, 90]) == alike([100]) == []


class Linear(Networks):
    """An encoder and a decoder of one layer each: they find an instability in few steps."""

    def encoder(self, image_shape: tuple[int, int, int], latents: int, groups: int) -> nn.Module:
        return LinearEncoder(torch.Size(image_shape).numel(), 2 * latents)

    def decoder(self, image_shape: tuple[int, int, int], latents: int) -> nn.Module:
        return nn.Sequential(nn.Linear(latents, torch.Size(image_shape).numel()), nn.Unflatten(1, image_shape))


class LinearEncoder(nn.Linear):
    def forward(self, images: Tensor) -> Posterior:
        return Posterior(*super().forward(images.flatten(1)).chunk(2, dim=1))


@pytest.mark.slow  # trains six models for 800 steps
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("relative", "opens"), [(1.2, False), (0.6, True)])
def test_training_collapses_above_the_first_eigenvalue_and_opens_a_latent_below(
    relative: float, opens: bool, seed: int
) -> None:
    """Both collapse while they learn the mean image; then the KL stays at 0, or grows."""
    beta = relative * float(spectrum([SQUARE]).eigenvalues[0])
    model = DEFT(
        Groups([4]), Constant(pressure=beta, epochs=1), BetaVAE(), Linear(), image_shape=(1, 16, 16), seed=seed
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.006)
    random = torch.Generator().manual_seed(seed)
    kl = []
    for _ in range(800):
        loss = model.compute_loss(SQUARE, torch.randn(64, 4, generator=random), torch.tensor(beta))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        kl.append(float(loss.parts["kl"].detach()))
    assert kl[0] > 0.3
    assert min(kl) < 0.05
    assert np.mean(kl[-50:]) > 0.3 if opens else np.mean(kl[-50:]) < 0.01
