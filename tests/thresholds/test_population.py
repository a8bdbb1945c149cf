"""A population is its members: each takes the steps that it would take alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from deft_lightning import DEFT, BetaVAE, DeftError, FactorDataModule, Groups
from deft_lightning.model.schedules.anneal import Anneal
from deft_lightning.thresholds.population import Population
from deft_lightning.thresholds.populations import anneal
from deft_lightning.thresholds.subsets import Subset
from tests.helpers import TinySprites, plain_trainer

SEEDS = (3, 11, 40)
STEPS = 12


def _module(seed: int, **options) -> DEFT:
    return DEFT(
        options.pop("groups", Groups([10])),
        Anneal(200, STEPS),
        BetaVAE(),
        (3, 64, 64),
        lr=2e-3,
        seed=seed,
        steps_per_epoch=1,
    )


def _data(place: int, batch_size: int = 4) -> FactorDataModule:
    """Images that differ in posX alone, in colours that are drawn afresh: 4 of them."""
    indices = place + 4 * torch.arange(4)
    return FactorDataModule(Subset(Precise(channels=3), indices), batch_size, seed=SEEDS[place])


class Parts(pl.Callback):
    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        seen = trainer.callback_metrics
        latents = [float(seen[f"train/kl/latent_{j:02d}"]) for j in range(10)]
        self.rows.append([float(seen["train/reconstruction"]), *latents])


class Precise(TinySprites):
    """The same images in the default precision."""

    def images(self, indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return super().images(indices, generator).to(torch.get_default_dtype())


@pytest.fixture(params=[torch.float32, torch.float64])
def precision(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("batch_size", [4, 2])  # the whole subset at every step, and half of it
def test_a_member_equals_the_same_test_alone(batch_size: int, precision: torch.dtype, tmp_path: Path) -> None:
    """Weights after 12 Adam steps, and everything recorded on the way, to rounding."""
    populations = [
        Population([_module(SEEDS[m]) for m in members], [_data(m, batch_size) for m in members])
        for members in ((0, 1), (2,))
    ]
    counted: list[int] = []
    curves = anneal(populations, STEPS, 1, counted.append)
    assert sum(counted) == 3 * STEPS
    parameters = [
        {k: v[m] for k, v in population.stacked.items()} for population in populations for m in range(len(population))
    ]
    for member, seed in enumerate(SEEDS):
        module, parts = _module(seed), Parts()
        options = {"max_steps": STEPS, "max_epochs": -1, "log_every_n_steps": 1}
        plain_trainer(tmp_path, parts, **options).fit(module, _data(member, batch_size))
        begin = dict(_module(seed).named_parameters())
        for name, value in module.named_parameters():
            moved = float((value - begin[name]).detach().abs().max())
            assert moved > 5e-3  # twelve steps of 2e-3: a difference would show
            apart = (parameters[member][name] - value).detach().abs()
            assert float(apart.mean()) < 1e-4 * moved, name
            # Adam divides by a gradient's own size: where that is no more than rounding, single weights go astray.
            assert float(apart.max()) < (0.02 if precision is torch.float64 else 0.2) * moved, name
        table = torch.tensor(parts.rows, dtype=torch.float64)
        curve = curves[member]
        torch.testing.assert_close(torch.tensor(curve.reconstruction), table[:, 0], rtol=1e-4, atol=0)
        torch.testing.assert_close(torch.tensor(curve.kl_per_latent), table[:, 1:], rtol=1e-2, atol=1e-5)
        assert curve.beta == pytest.approx([max(200 * (1 - t / STEPS), 1) for t in range(STEPS)])


def test_populations_go_on_from_where_they_were_saved(tmp_path: Path) -> None:
    """Five steps, and seven more of others from their files, are the twelve of one: weights and records."""

    def make() -> list[Population]:
        members = ((0, 1), (2,))
        return [Population([_module(SEEDS[m]) for m in part], [_data(m, 2) for m in part]) for part in members]

    whole, first, second = make(), make(), make()
    expected = anneal(whole, STEPS, 2, lambda _: None)
    anneal(first, 5, 2, lambda _: None, tmp_path)
    counted: list[int] = []
    curves = anneal(second, STEPS, 2, counted.append, tmp_path)
    assert sorted(counted)[-2:] == [5, 10]  # restored, of one member and of two
    assert sum(counted) == 3 * STEPS
    for ours, theirs in zip(second, whole, strict=True):
        for name, value in theirs.stacked.items():
            assert torch.equal(ours.stacked[name], value), name
    for curve, other in zip(curves, expected, strict=True):
        assert curve.kl_per_latent.tolist() == other.kl_per_latent.tolist()
        assert curve.step.tolist() == [2, 4, 6, 8, 10, 12]


def test_a_file_of_other_populations_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Said where some members are the same, which another number of threads makes; and nothing of it is used."""
    anneal([Population([_module(3), _module(11)], [_data(0), _data(1)])], 4, 1, lambda _: None, tmp_path)
    (fresh,) = anneal([Population([_module(40)], [_data(2)])], 4, 1, lambda _: None)
    (other,) = anneal([Population([_module(40)], [_data(2)])], 4, 1, lambda _: None, tmp_path)
    assert other.kl_per_latent.tolist() == fresh.kl_per_latent.tolist()
    assert not caplog.records
    counted: list[int] = []
    anneal([Population([_module(40), _module(3)], [_data(2), _data(0)])], 4, 1, counted.append, tmp_path)
    assert counted == [0, 2, 2, 2, 2]
    assert "is of another number of threads" in caplog.text


def test_refusals() -> None:
    with pytest.raises(DeftError, match="one group of encoders"):
        Population([_module(0, groups=Groups([5, 5]))], [_data(0)])
    with pytest.raises(DeftError, match="batches of one size"):
        Population([_module(0), _module(1)], [_data(0, 4), _data(1, 2)])


def test_a_loss_that_is_not_finite_is_said_and_ends_all_populations() -> None:
    threads = torch.get_num_threads()
    populations = [Population([_module(m)], [_data(m)]) for m in range(2)]
    with torch.no_grad():
        populations[1].parameters["decoder.hidden.bias"].fill_(float("nan"))
    with pytest.raises(DeftError, match="no longer finite at step 1"):
        anneal(populations, 100_000, 1, lambda _: None)
    assert populations[0].step_count < 100_000
    assert torch.get_num_threads() == threads
