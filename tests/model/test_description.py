"""The model of a checkpoint is built again from the file alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import deft_lightning as dl
from deft_lightning import DEFT, DeftError
from deft_lightning.model import description
from deft_lightning.model.checkpoint import CHECKPOINT_KEY
from deft_lightning.model.likelihoods import Likelihood
from deft_lightning.model.networks import Networks
from deft_lightning.model.objectives import Objective
from deft_lightning.model.schedules.base import Schedule
from tests.helpers import TinySprites, plain_trainer, tiny_module

PARTS = [
    (dl.Groups([3, 3], gamma=0.5, inactive="prior"), dl.Groups),
    (dl.Piecewise((1, 2), (70, 1), fraction=0.5), Schedule),
    (dl.Constant(pressure=6, steps=10), Schedule),
    (dl.Capacity(c_max=25, increase_steps=100, epochs=2), Schedule),
    (dl.Anneal(100, 50), Schedule),
    (dl.Adaptive([1, 1], [2, 1], window=7), Schedule),
    (dl.BetaVAE(), Objective),
    (dl.AnnealedVAE(gamma=3), Objective),
    (dl.FactorVAE(gamma=3, hidden=20, layers=2), Objective),
    (dl.DIPVAE1(lambda_od=2, lambda_d=7), Objective),
    (dl.DIPVAE2(lambda_od=2), Objective),
    (dl.BetaTCVAE(beta=3, estimator="stratified"), Objective),
    (dl.DEFTTC(beta=4), Objective),
    (dl.Burgess(), Networks),
    (dl.Locatello(), Networks),
    (dl.Residual(16), Networks),
    (dl.Bernoulli(), Likelihood),
    (dl.Gaussian(0.2), Likelihood),
    (dl.LearntGaussian(), Likelihood),
    (dl.ContinuousBernoulli(), Likelihood),
]


@pytest.mark.parametrize(("part", "base"), PARTS, ids=[type(part).__name__ for part, _ in PARTS])
def test_every_part_is_built_again_from_plain_values_under_its_public_name(part, base) -> None:
    content = json.loads(json.dumps(description.describe(part)))  # plain values only
    assert content["class"] == f"deft_lightning.{type(part).__name__}"
    again = description.build(content, "part", base, trust=False)
    assert type(again) is type(part)
    assert description.describe(again) == content


class Mine(dl.BetaVAE):
    """An objective from outside the package."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight


class Forgets(dl.BetaVAE):
    """An objective that does not keep its argument."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()


def test_a_class_from_elsewhere_needs_trust() -> None:
    content = description.describe(Mine(3.0))
    assert content["class"] == f"{__name__}:Mine"
    with pytest.raises(DeftError, match=r"objective of this checkpoint is .*Mine, which is not part of deft_lightning"):
        description.build(content, "objective", Objective, trust=False)
    assert description.build(content, "objective", Objective, trust=True).weight == 3.0


def test_nothing_is_imported_without_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "harmful.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeftError, match="add trust=True"):
        description.build({"class": "harmful:Mine", "arguments": {}}, "objective", Objective, trust=False)
    assert "harmful" not in sys.modules


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"class": "no_such_module:Mine", "arguments": {}}, "cannot be imported"),
        ({"class": f"{__name__}:Absent", "arguments": {}}, "cannot be imported"),
        ({"class": "os:system", "arguments": {"command": "true"}}, "which is no Objective"),
        ({"class": "deft_lightning.Burgess", "arguments": {}}, "which is no Objective"),
        ({"class": "deft_lightning.BetaVAE", "arguments": {"weight": 2}}, "which takes other arguments now"),
        (description.describe(Forgets(2.0)), "it does not keep its argument weight as an attribute: pass objective="),
    ],
)
def test_what_cannot_be_built_is_one_sentence(content: dict, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        description.build(content, "objective", Objective, trust=True)


def test_a_checkpoint_of_a_plain_trainer_holds_the_whole_model(tmp_path: Path) -> None:
    images = TinySprites().images(torch.arange(96), torch.Generator())
    module = DEFT(
        dl.Groups([3, 3]), dl.Piecewise([1, 1], [70, 1]), dl.DEFTTC(beta=3), image_shape=(1, 64, 64), lr=1e-3, seed=5
    )
    trainer = plain_trainer(tmp_path, max_steps=15, max_epochs=-1)
    trainer.fit(module, dl.FactorDataModule(TinySprites(), batch_size=8))
    trainer.save_checkpoint(tmp_path / "deft.ckpt")
    again = DEFT.load_from_checkpoint(tmp_path / "deft.ckpt")
    assert torch.equal(again.encode(images).mean, module.encode(images).mean)
    assert (again.lr, again.seed, again.image_shape, again.objective.beta) == (1e-3, 5, (1, 64, 64), 3)
    assert again.objective.dataset_size == 96
    assert (again.stage.index, again.stage.pressure) == (1, 1)  # of step 15, in the second stage
    assert again.steps_per_epoch == 12
    given = DEFT.load_from_checkpoint(str(tmp_path / "deft.ckpt"), objective=dl.BetaVAE(), map_location="cpu")
    assert isinstance(given.objective, dl.BetaVAE)


def test_other_files_and_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with pytest.raises(DeftError, match="there is no checkpoint"):
        DEFT.load_from_checkpoint(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DeftError, match="is damaged or not a checkpoint"):
        DEFT.load_from_checkpoint(path)
    weights = tiny_module().state_dict()
    for content in ({"latents": [3, 3]}, {"schema_version": 99}):
        torch.save({"state_dict": weights, CHECKPOINT_KEY: content}, path)
        with pytest.raises(DeftError, match="and this package reads version 1: load it with the version"):
            DEFT.load_from_checkpoint(path)
