"""Scores at stage ends: those of the weights, on one fixed sample; what can be scored without labels; a warning."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from deft_lightning import (
    DEFT,
    AnnealedVAE,
    Capacity,
    ContinuousBernoulli,
    FactorDataModule,
    Gaussian,
    Groups,
    LearntGaussian,
)
from deft_lightning.common import results
from deft_lightning.evaluation.codes import encode, reconstruction_errors
from deft_lightning.metrics import max_nmi, mig, nmi
from deft_lightning.training.callbacks import Evaluation, Scores
from tests.helpers import Recorder, TinySprites, UnlabelledSprites, Weights, plain_trainer, tiny_module

pytestmark = pytest.mark.slow  # trains runs


def _colour_data(seed: int = 0) -> FactorDataModule:
    return FactorDataModule(TinySprites(3), batch_size=32, seed=seed)


def test_scores_of_every_stage_are_those_of_its_last_weights(tmp_path: Path) -> None:
    recorder, weights, data = Recorder(), Weights(), _colour_data()
    evaluation = Evaluation([Scores({"bins": 8})], num_points=60, bins=8)
    trainer = plain_trainer(tmp_path, weights, evaluation, logger=recorder, max_epochs=4)
    module = tiny_module(image_shape=(3, 64, 64))
    trainer.fit(module, data)
    stages = results.read(tmp_path)["stages"]
    assert list(stages) == ["stage_1", "stage_2", "stage_3", "stage_4"]
    assert [(s["step"], s["pressure"]) for s in stages.values()] == [(3, 70), (6, 30), (9, 12), (12, 1)]
    for name in ("mig", "reconstruction", "kl"):
        logged = recorder.column(f"score/{name}")
        assert logged == {stage["step"]: stage["scores"][name] for stage in stages.values()}
    for stage in stages.values():
        module.load_state_dict(weights.after[stage["step"]])
        encoding = encode(module, data, data.sample(60))
        matrix = nmi(encoding.codes, encoding.factors, 8)
        assert stage["scores"]["mig"] == pytest.approx(mig(encoding.codes, encoding.factors, 8).score, abs=1e-9)
        np.testing.assert_allclose(stage["nmi"], matrix, atol=1e-9)
        assert list(stage["max1_nmi"]) == list(stage["max2_nmi"]) == ["shape", "scale", "posX", "posY"]
        np.testing.assert_allclose(list(stage["max1_nmi"].values()), max_nmi(matrix, 1), atol=1e-9)
        np.testing.assert_allclose(list(stage["max2_nmi"].values()), max_nmi(matrix, 2), atol=1e-9)
        np.testing.assert_allclose(stage["kl_per_latent"], encoding.kl, rtol=1e-6)
        assert stage["scores"]["kl"] == pytest.approx(sum(stage["kl_per_latent"]))
        assert stage["scores"]["reconstruction"] == pytest.approx(reconstruction_errors(module, data, encoding).mean())


def test_kl_and_reconstruction_are_their_closed_forms() -> None:
    """All 96 images: KL(N(m, s) || N(0, 1)) and the Bernoulli likelihood, written out."""
    data, module = FactorDataModule(TinySprites(), batch_size=32), tiny_module()
    for group in module.encoder.groups:
        group.head.weight.data *= 30  # posteriors that are far from the prior
    encoding = encode(module, data, torch.arange(96))
    images = TinySprites().images(torch.arange(96), torch.Generator())
    with torch.no_grad():
        posterior = module.encode(images)
        decoded = module.decode(posterior.mean).double().clamp(1e-12, 1 - 1e-7)
    mean, variance = posterior.mean.double(), posterior.log_variance.double().exp()
    kl = 0.5 * (mean**2 + variance - variance.log() - 1).mean(dim=0)
    np.testing.assert_allclose(encoding.kl, kl, rtol=1e-4)
    likelihood = images * decoded.log() + (1 - images) * (1 - decoded).log()
    expected = -float(likelihood.sum()) / 96
    assert reconstruction_errors(module, data, encoding).mean() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("likelihood", "distribution"),
    [
        (Gaussian(0.3), lambda p: torch.distributions.Normal(torch.sigmoid(p), 0.3)),
        (LearntGaussian(), lambda p: torch.distributions.Normal(torch.sigmoid(p), 0.2)),
        (ContinuousBernoulli(), lambda p: torch.distributions.ContinuousBernoulli(logits=p)),
    ],
)
def test_reconstruction_is_that_of_the_likelihood_also_while_the_module_trains(likelihood, distribution) -> None:
    """In nats of the density; the learnt sigma is the running one. What is decoded is the mean."""
    data, module = FactorDataModule(TinySprites(), batch_size=32), tiny_module(likelihood=likelihood)
    if isinstance(likelihood, LearntGaussian):
        likelihood.squared_error.fill_(0.04)
    assert module.training
    encoding = encode(module, data, torch.arange(96))
    images = TinySprites().images(torch.arange(96), torch.Generator())
    with torch.no_grad():
        output = distribution(module.decoder(torch.as_tensor(encoding.codes)).double())
    expected = -output.log_prob(images.double()).flatten(1).sum(dim=1)
    np.testing.assert_allclose(reconstruction_errors(module, data, encoding), expected, rtol=1e-4, atol=1e-2)
    assert module.training
    torch.testing.assert_close(module.decode(encoding.codes).double(), output.mean, rtol=1e-4, atol=1e-5)


def test_the_sample_is_fixed_and_a_function_of_the_seed() -> None:
    module = tiny_module(image_shape=(3, 64, 64))
    first, again, other = (encode(module, data, data.sample(50)) for data in map(_colour_data, (0, 0, 1)))
    assert torch.equal(first.indices, again.indices)
    assert len(set(first.indices.tolist())) == 50
    np.testing.assert_array_equal(first.codes, again.codes)  # the colours too
    assert not torch.equal(first.indices, other.indices)
    data = _colour_data()
    np.testing.assert_array_equal(first.codes, encode(module, data, data.sample(50)).codes)
    np.testing.assert_array_equal(first.codes, encode(module, data, data.sample(50)).codes)


def test_data_without_labels_is_scored_as_far_as_it_can_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    trainer = plain_trainer(tmp_path, Evaluation([Scores()], num_points=60), logger=recorder, max_epochs=4)
    with caplog.at_level(logging.INFO, logger="deft_lightning.training.callbacks.scores"):
        trainer.fit(tiny_module(), FactorDataModule(UnlabelledSprites(), batch_size=32))
    messages = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert messages == ["The data have no labels: the scores that need them are skipped."]  # once for all stages
    stage = results.read(tmp_path)["stages"]["stage_1"]
    assert set(stage["scores"]) == {"reconstruction", "kl", "active_units", "total_correlation"}
    assert not {"nmi", "max1_nmi", "max2_nmi"} & set(stage)
    assert np.isfinite(list(stage["scores"].values())).all()
    assert set(recorder.column("score/kl")) == {3, 6, 9, 12}
    assert not recorder.column("score/mig")


def test_what_takes_long_is_scored_at_the_last_stage_alone(tmp_path: Path) -> None:
    settings = {"num_points": 60, "num_test": 36, "each_stage": ["mig"], "at_end": ["irs", "sap", "factor_vae"]}
    scores = Scores(settings | {"votes": [20, 10], "bootstrap": 10})
    trainer = plain_trainer(tmp_path, Evaluation([scores], num_points=60), max_epochs=4)
    trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=32))
    *early, last = results.read(tmp_path)["stages"].values()
    assert all(set(stage["scores"]) == {"reconstruction", "kl", "mig"} for stage in early)
    assert set(last["scores"]) == {"reconstruction", "kl", "mig", "irs", "sap", "factor_vae"}
    assert set(last["intervals"]) == set(last["scores"])
    assert all(0 <= low <= high for low, high in last["intervals"].values())
    low, high = last["intervals"]["reconstruction"]
    assert low < last["scores"]["reconstruction"] < high


def _warnings(folder: Path, module: DEFT, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Warnings of a fit of one epoch."""
    trainer = plain_trainer(folder, Evaluation([Scores()], num_points=60), max_epochs=1)
    with caplog.at_level(logging.WARNING, logger="deft_lightning"):
        trainer.fit(module, FactorDataModule(TinySprites(), batch_size=32))
    return [record.getMessage() for record in caplog.records if record.name.startswith("deft_lightning")]


@pytest.mark.parametrize("latents", [0, 1, 10])
def test_a_collapsed_model_is_reported_in_one_line_and_no_other(
    latents: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`latents` of the ten have a KL of half a nat; the others are the prior."""
    module = tiny_module(lr=1e-9)
    first = 0
    for group, count in zip(module.encoder.groups, module.groups.latents, strict=True):
        group.head.weight.data *= 0
        group.head.bias.data *= 0
        for latent in range(count):
            if first + latent < latents:
                group.head.bias.data[latent] = 1.0  # a mean of 1: half a nat
        first += count
    messages = _warnings(tmp_path, module, caplog)
    kl = results.read(tmp_path)["stages"]["stage_1"]["kl_per_latent"]
    assert sum(value > 0.4 for value in kl) == latents
    if latents:
        assert messages == []
    else:
        assert messages == [
            "Stage 1: no latent passes information at pressure 70 (every KL is below 0.01 nats): lower the pressure; "
            "`python -m deft_lightning.thresholds` measures where information begins to pass."
        ]


def test_under_a_capacity_that_is_too_small_the_advice_is_to_raise_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = Capacity(steps=3, c_max=0.001, increase_steps=1)
    module = DEFT(Groups([4]), schedule, AnnealedVAE(), image_shape=(1, 64, 64), lr=1e-9)
    for group in module.encoder.groups:
        group.head.weight.data *= 0
    assert _warnings(tmp_path, module, caplog) == [
        "Stage 1: no latent passes information at capacity 0.001 (every KL is below 0.01 nats): raise the capacity."
    ]
