"""Scores at stage ends: those of the weights, on one fixed sample, and what can be scored without labels."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from deft_lightning import FactorDataModule
from deft_lightning.common import results
from deft_lightning.evaluation.codes import codes_now, encode, reconstruction_errors
from deft_lightning.metrics import max_nmi, mig, nmi
from deft_lightning.training.callbacks import Scores
from tests.helpers import Recorder, TinySprites, UnlabelledSprites, plain_trainer, tiny_module


class Weights(pl.Callback):
    """The weights after every step."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.after[trainer.global_step] = {k: v.clone() for k, v in pl_module.state_dict().items()}


def _colour_data(seed: int = 0) -> FactorDataModule:
    return FactorDataModule(TinySprites(3), batch_size=32, seed=seed)


def test_scores_of_every_stage_are_those_of_its_last_weights(tmp_path: Path) -> None:
    recorder, weights, data = Recorder(), Weights(), _colour_data()
    trainer = plain_trainer(tmp_path, weights, Scores({"num_points": 60, "bins": 8}), logger=recorder, max_epochs=4)
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
        table = encode(module, data, data.sample(60))
        matrix = nmi(table.codes, table.factors, 8)
        assert stage["scores"]["mig"] == pytest.approx(mig(table.codes, table.factors, 8).score, abs=1e-9)
        np.testing.assert_allclose(stage["nmi"], matrix, atol=1e-9)
        assert list(stage["max1_nmi"]) == list(stage["max2_nmi"]) == ["shape", "scale", "posX", "posY"]
        np.testing.assert_allclose(list(stage["max1_nmi"].values()), max_nmi(matrix, 1), atol=1e-9)
        np.testing.assert_allclose(list(stage["max2_nmi"].values()), max_nmi(matrix, 2), atol=1e-9)
        np.testing.assert_allclose(stage["kl_per_latent"], table.kl, rtol=1e-6)
        assert stage["scores"]["kl"] == pytest.approx(sum(stage["kl_per_latent"]))
        assert stage["scores"]["reconstruction"] == pytest.approx(reconstruction_errors(module, data, table).mean())


def test_kl_and_reconstruction_are_their_closed_forms() -> None:
    """All 96 images: KL(N(m, s) || N(0, 1)) and the Bernoulli likelihood, written out."""
    data, module = FactorDataModule(TinySprites(), batch_size=32), tiny_module()
    for group in module.encoder.groups:
        group.head.weight.data *= 30  # posteriors that are far from the prior
    table = encode(module, data, torch.arange(96))
    images = TinySprites().images(torch.arange(96), torch.Generator())
    with torch.no_grad():
        posterior = module.encode(images)
        decoded = module.decode(posterior.mean).double().clamp(1e-12, 1 - 1e-7)
    mean, variance = posterior.mean.double(), posterior.log_variance.double().exp()
    kl = 0.5 * (mean**2 + variance - variance.log() - 1).mean(dim=0)
    np.testing.assert_allclose(table.kl, kl, rtol=1e-4)
    likelihood = images * decoded.log() + (1 - images) * (1 - decoded).log()
    expected = -float(likelihood.sum()) / 96
    assert reconstruction_errors(module, data, table).mean() == pytest.approx(expected, rel=1e-4)


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


def test_callbacks_of_one_step_share_one_table_and_steps_do_not(tmp_path: Path) -> None:
    tables: dict[int, list] = {}

    class Ask(pl.Callback):
        def on_train_batch_end(self, trainer, *_) -> None:
            tables[trainer.global_step] = [codes_now(trainer, 40), codes_now(trainer, 40), codes_now(trainer, 30)]

    plain_trainer(tmp_path, Ask(), max_steps=2, max_epochs=-1).fit(tiny_module(image_shape=(3, 64, 64)), _colour_data())
    for first, again, fewer in tables.values():
        assert first is again
        assert (len(first.codes), len(fewer.codes)) == (40, 30)
    assert not np.array_equal(tables[1][0].codes, tables[2][0].codes)


def test_data_without_labels_is_scored_as_far_as_it_can_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    trainer = plain_trainer(tmp_path, Scores({"num_points": 60}), logger=recorder, max_epochs=4)
    with caplog.at_level(logging.INFO, logger="deft_lightning.training.callbacks.scores"):
        trainer.fit(tiny_module(), FactorDataModule(UnlabelledSprites(), batch_size=32))
    said = [record.getMessage() for record in caplog.records if record.name.startswith("deft_lightning")]
    assert said == ["No labels: the scores that need them are skipped."]  # once, not at every stage end
    stage = results.read(tmp_path)["stages"]["stage_1"]
    assert set(stage["scores"]) == {"reconstruction", "kl", "active_units", "total_correlation"}
    assert not {"nmi", "max1_nmi", "max2_nmi"} & set(stage)
    assert np.isfinite(list(stage["scores"].values())).all()
    assert set(recorder.column("score/kl")) == {3, 6, 9, 12}
    assert not recorder.column("score/mig")


def test_what_takes_long_is_scored_at_the_last_stage_alone(tmp_path: Path) -> None:
    settings = {"num_points": 60, "num_test": 36, "each_stage": ["mig"], "at_end": ["irs", "sap", "factor_vae"]}
    trainer = plain_trainer(tmp_path, Scores(settings | {"votes": [20, 10], "bootstrap": 10}), max_epochs=4)
    trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=32))
    *early, last = results.read(tmp_path)["stages"].values()
    assert all(set(stage["scores"]) == {"reconstruction", "kl", "mig"} for stage in early)
    assert set(last["scores"]) == {"reconstruction", "kl", "mig", "irs", "sap", "factor_vae"}
    assert set(last["intervals"]) == set(last["scores"])
    assert all(0 <= low <= high for low, high in last["intervals"].values())
    low, high = last["intervals"]["reconstruction"]
    assert low < last["scores"]["reconstruction"] < high
