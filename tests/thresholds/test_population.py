"""Each member of a population takes the steps that it would take in a trainer of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils._pytree import tree_flatten_with_path

from deft_lightning import (
    DEFT,
    AdamW,
    BetaVAE,
    Burgess,
    ContinuousBernoulli,
    DeftError,
    FactorDataModule,
    Groups,
    LearntGaussian,
)
from deft_lightning.model.schedules.anneal import Anneal
from deft_lightning.thresholds.members import Members, Separate
from deft_lightning.thresholds.population import Population
from deft_lightning.thresholds.populations import anneal, divide
from deft_lightning.thresholds.subsets import Subset
from tests.helpers import TinySprites, plain_trainer

pytestmark = pytest.mark.slow  # trains runs

SEEDS = (3, 11, 40)
STEPS = 12


def _module(seed: int, **options) -> DEFT:
    """A beta-VAE whose biases are not zero.

    With biases of zero, the first layers give zero for the black background, and which side of the ReLU it is on after
    the first steps is a matter of rounding.
    """
    module = DEFT(
        options.pop("groups", Groups([10])),
        Anneal(200, STEPS),
        BetaVAE(),
        image_shape=(3, 64, 64),
        lr=2e-3,
        seed=seed,
        steps_per_epoch=1,
        **options,
    )
    random = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1, generator=random)
    return module


def _data(place: int, batch_size: int = 4) -> FactorDataModule:
    """Four images that differ only in posX, in colours that are drawn for every batch."""
    indices = place + 4 * torch.arange(4)
    return FactorDataModule(Subset(Precise(channels=3), indices), batch_size, seed=SEEDS[place])


class Parts(pl.Callback):
    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        parts = pl_module.last_loss.parts
        self.rows.append([float(parts["reconstruction"]), *parts["kl/latent"].tolist()])


class Precise(TinySprites):
    """TinySprites in the default precision."""

    def images(self, indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return super().images(indices, generator).to(torch.get_default_dtype())


@pytest.fixture(params=[torch.float32, torch.float64])
def precision(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("batch_size", [4, 2])  # the whole subset at every step, and half of it
def test_a_member_equals_the_same_test_alone(batch_size: int, precision: torch.dtype, tmp_path: Path) -> None:
    """The weights after 12 Adam steps, and everything recorded in them, are equal up to rounding."""
    populations = [
        Population([_module(SEEDS[m]) for m in members], [_data(m, batch_size) for m in members])
        for members in ((0, 1), (2,))
    ]
    counted: list[int] = []
    curves = anneal(populations, STEPS, counted.append)
    assert sum(counted) == 3 * STEPS
    parameters = [
        {k: v[m] for k, v in population.stacked.items()} for population in populations for m in range(len(population))
    ]
    for member, seed in enumerate(SEEDS):
        module, parts = _module(seed), Parts()
        plain_trainer(tmp_path, parts, max_steps=STEPS, max_epochs=-1).fit(module, _data(member, batch_size))
        begin = dict(_module(seed).named_parameters())
        for name, value in module.named_parameters():
            moved = float((value - begin[name]).detach().abs().max())
            assert moved > 5e-3  # 12 steps of 2e-3: far more than the differences allowed below
            apart = (parameters[member][name] - value).detach().abs()
            assert float(apart.mean()) < 1e-4 * moved, name
            assert float(apart.max()) < 0.02 * moved, name
        table = torch.tensor(parts.rows, dtype=torch.float64)
        curve = curves[member]
        torch.testing.assert_close(torch.tensor(curve.reconstruction), table[:, 0], rtol=1e-4, atol=0)
        torch.testing.assert_close(torch.tensor(curve.kl_per_latent), table[:, 1:], rtol=1e-2, atol=1e-5)
        assert curve.beta == pytest.approx([max(200 * (1 - t / STEPS), 1) for t in range(STEPS)])


def test_adamw_takes_the_same_steps_on_stacked_parameters(tmp_path: Path) -> None:
    """With a weight decay that moves the weights as far as the gradients do."""
    optimizer = AdamW(weight_decay=3.0)
    population = Population([_module(3, optimizer=optimizer), _module(11, optimizer=optimizer)], [_data(0), _data(1)])
    anneal([population], STEPS, lambda _: None)
    module = _module(11, optimizer=optimizer)
    plain_trainer(tmp_path, max_steps=STEPS, max_epochs=-1).fit(module, _data(1))
    for name, value in module.named_parameters():
        apart = (population.stacked[name][1] - value).detach().abs()
        assert float(apart.mean()) < 1e-5, name


def test_members_of_another_likelihood_train_one_after_another_as_each_would_alone(tmp_path: Path) -> None:
    """To the bit: weights, the running sigma of each, and what is recorded."""

    def make() -> list[DEFT]:
        return [_module(seed, likelihood=LearntGaussian()) for seed in SEEDS]

    populations = divide(make(), [_data(m) for m in range(3)], "cpu")
    assert all(type(members) is Separate for members in populations)
    curves = anneal(populations, STEPS, lambda _: None)
    states = [state for members in populations for state in members.weights()["modules"]]
    for member, module in enumerate(make()):
        parts = Parts()
        plain_trainer(tmp_path, parts, max_steps=STEPS, max_epochs=-1).fit(module, _data(member))
        expected = module.state_dict()
        assert float(expected["likelihood.steps"]) == STEPS
        for name, value in expected.items():
            torch.testing.assert_close(states[member][name], value, rtol=0, atol=1e-6, msg=name)
        table = torch.tensor(parts.rows, dtype=torch.float64)
        torch.testing.assert_close(torch.tensor(curves[member].reconstruction), table[:, 0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", [Population, Separate])
def test_populations_go_on_from_where_they_were_saved(kind: type[Members], tmp_path: Path) -> None:
    """Five steps, then seven more of new populations from the files, give the weights and records of twelve."""

    def make() -> list[Members]:
        members = ((0, 1), (2,))
        return [kind([_module(SEEDS[m]) for m in part], [_data(m, 2) for m in part]) for part in members]

    whole, first, second = make(), make(), make()
    expected = anneal(whole, STEPS, lambda _: None)
    anneal(first, 5, lambda _: None, tmp_path)
    counted: list[int] = []
    curves = anneal(second, STEPS, counted.append, tmp_path)
    assert sorted(counted)[-2:] == [5, 10]  # restored steps, of one member and of two
    assert sum(counted) == 3 * STEPS
    for ours, theirs in zip(second, whole, strict=True):
        weights = [tree_flatten_with_path(members.weights())[0] for members in (ours, theirs)]
        for (path, value), (_, expected_value) in zip(*weights, strict=True):
            same = torch.equal(value, expected_value) if isinstance(value, torch.Tensor) else value == expected_value
            assert same, path
    for curve, other in zip(curves, expected, strict=True):
        assert curve.kl_per_latent.tolist() == other.kl_per_latent.tolist()
        assert curve.step.tolist() == list(range(1, STEPS + 1))


def test_a_file_of_other_populations_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is not used; there is a warning if some members are the same, as with another number of threads."""
    anneal([Population([_module(3), _module(11)], [_data(0), _data(1)])], 4, lambda _: None, tmp_path)
    (fresh,) = anneal([Population([_module(40)], [_data(2)])], 4, lambda _: None)
    (other,) = anneal([Population([_module(40)], [_data(2)])], 4, lambda _: None, tmp_path)
    assert other.kl_per_latent.tolist() == fresh.kl_per_latent.tolist()
    assert not caplog.records
    counted: list[int] = []
    anneal([Population([_module(40), _module(3)], [_data(2), _data(0)])], 4, counted.append, tmp_path)
    assert counted == [0, 2, 2, 2, 2]
    assert "was saved with another number of threads" in caplog.text


def test_refusals() -> None:
    with pytest.raises(DeftError, match="one encoder group"):
        Population([_module(0, groups=Groups([5, 5]))], [_data(0)])
    other = _module(0)
    other.networks = object()  # type: ignore[assignment]  # a family without convolutions
    derived = _module(0)
    derived.networks = type("Mine", (Burgess,), {})()  # its encoder may be another
    for module in (other, derived, _module(0, likelihood=ContinuousBernoulli())):
        with pytest.raises(DeftError, match="cannot be trained as a population"):
            Population([module], [_data(0)])
    with pytest.raises(DeftError, match="need the same batch size"):
        Population([_module(0), _module(1)], [_data(0, 4), _data(1, 2)])


def test_a_loss_that_is_not_finite_is_said_and_ends_all_populations() -> None:
    threads = torch.get_num_threads()
    populations = [Population([_module(m)], [_data(m)]) for m in range(2)]
    with torch.no_grad():
        populations[1].parameters["decoder.hidden.bias"].fill_(float("nan"))
    with pytest.raises(DeftError, match="not finite at step 1:"):
        anneal(populations, 100_000, lambda _: None)
    assert populations[0].step_count < 100_000
    assert torch.get_num_threads() == threads
