"""The package as a library: modules trained with a plain `pl.Trainer`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import deft_lightning
from deft_lightning import DEFT, Bernoulli, BetaVAE, Constant, DeftError, FactorDataModule, Groups, Piecewise
from deft_lightning.common import memory
from deft_lightning.model.compiling import can_compile
from deft_lightning.training.callbacks.base import DEFTCallback, images_per_step
from tests.helpers import TinySprites, plain_trainer, tiny_module


def _error(module: DEFT, images: torch.Tensor) -> float:
    with torch.no_grad():
        return float(Bernoulli().nll(module(images).parameters, images))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return TinySprites().images(torch.arange(96), torch.Generator())


@pytest.mark.slow  # trains
@pytest.mark.parametrize("plain", [False, True], ids=["FactorDataModule", "DataLoader"])
def test_trains_with_a_plain_trainer(plain: bool, images: torch.Tensor, tmp_path: Path) -> None:
    """On a data module or any loader of image tensors: the error falls far below that of a grey image."""
    module = DEFT(Groups([3, 3]), Piecewise([3, 3], [4, 1]), BetaVAE(), image_shape=(1, 64, 64), lr=2e-3)
    before = _error(module, images)
    assert before == pytest.approx(4096 * 0.6931, rel=0.05)  # untrained: ln 2 nats a pixel
    data = DataLoader(images, batch_size=8) if plain else FactorDataModule(TinySprites(), batch_size=8)  # type: ignore[arg-type]
    plain_trainer(tmp_path, max_epochs=6).fit(module, data)
    assert module.steps_per_epoch == 12
    assert module.timeline.boundaries == (36, 72)
    assert module.global_step == 72
    assert _error(module, images) < 0.5 * before


def test_a_fit_leaves_the_memory_settings_of_the_process_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They cannot wholly be undone: whoever uses the package as a library asks for them."""
    monkeypatch.setattr(memory, "_glibc", lambda: pytest.fail("the settings were changed"))
    module = DEFT(Groups([3]), Constant(pressure=1, steps=1), BetaVAE(), image_shape=(1, 64, 64))
    plain_trainer(tmp_path, max_steps=1).fit(module, FactorDataModule(TinySprites(), batch_size=8))
    assert module.global_step == 1


def test_a_beta_vae_is_one_group_under_one_pressure(images: torch.Tensor, tmp_path: Path) -> None:
    module = DEFT(Groups([10]), Constant(pressure=6, epochs=1), BetaVAE(), image_shape=(1, 64, 64))
    trainer = plain_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, FactorDataModule(TinySprites(), batch_size=32))
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [5e-4, 5e-4]
    assert module.stage.pressure == 6


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first, again, other = (tiny_module(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first if key.endswith("weight"))


def test_encode_and_decode_have_the_documented_shapes(images: torch.Tensor) -> None:
    module = tiny_module()
    posterior = module.encode(images[:5])
    assert posterior.mean.shape == posterior.log_variance.shape == (5, 10)
    decoded = module.decode(posterior.mean)
    assert decoded.shape == (5, 1, 64, 64)
    assert 0 <= float(decoded.min()) <= float(decoded.max()) <= 1


def test_everything_public_can_be_imported() -> None:
    for name in deft_lightning.__all__:
        assert getattr(deft_lightning, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Deft'"):
        _ = deft_lightning.Deft


@pytest.mark.slow  # torch.compile takes about 30 s
@pytest.mark.skipif(not can_compile("cpu"), reason="torch.compile needs a C++ compiler")
def test_compiled_and_eager_losses_and_gradients_are_equal(images: torch.Tensor) -> None:
    eager, compiled = tiny_module(), tiny_module(compiled=True)
    noise = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    for pressure in (160.0, 1.0):  # another pressure does not compile again
        losses = [m.compute_loss(images[:8], noise, torch.tensor(pressure)) for m in (eager, compiled)]
        for name, value in losses[0].parts.items():
            torch.testing.assert_close(losses[1].parts[name], value, rtol=1e-4, atol=1e-6)
        for module, loss in zip((eager, compiled), losses, strict=True):
            module.zero_grad()
            loss.total.backward()
        for (name, ours), theirs in zip(compiled.named_parameters(), eager.parameters(), strict=True):
            scale = float(theirs.grad.abs().max())
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4 * scale, msg=name)


def test_batches_that_are_accumulated_make_fewer_steps_and_have_noise_of_their_own(tmp_path: Path) -> None:
    """6 batches an epoch, 4 at a time, are 2 steps: four stages of one epoch end at 2, 4, 6 and 8."""
    places = []
    module = tiny_module()
    noise = module._noise.at
    module._noise.at = lambda place, *rest: places.append(place) or noise(place, *rest)  # type: ignore[method-assign]
    trainer = plain_trainer(tmp_path, max_epochs=4, accumulate_grad_batches=4)
    trainer.fit(module, DataLoader(torch.rand(96, 1, 64, 64), batch_size=16))  # type: ignore[arg-type]
    assert list(module.timeline.boundaries) == [2, 4, 6, 8]
    assert trainer.global_step == 8
    assert len(set(places)) == len(places) == 24


def test_callbacks_act_once_a_step_when_batches_are_accumulated(tmp_path: Path) -> None:
    """And images a second count every batch of a step."""
    acted: list[tuple[int, int | None]] = []

    class Look(DEFTCallback):
        def after_step(self, trainer, module, stage) -> None:
            acted.append((trainer.global_step, stage))

    trainer = plain_trainer(tmp_path, Look(), max_epochs=4, accumulate_grad_batches=4)
    trainer.fit(tiny_module(), DataLoader(torch.rand(96, 1, 64, 64), batch_size=16))  # type: ignore[arg-type]
    assert acted == [(1, None), (2, 0), (3, None), (4, 1), (5, None), (6, 2), (7, None), (8, 3)]
    assert images_per_step(trainer, torch.rand(16, 1, 64, 64)) == 64
    assert images_per_step(trainer, [torch.rand(16, 1, 64, 64), torch.zeros(16, 5)]) == 64


@pytest.mark.parametrize("kind", ["any iterable", "stream"])
def test_loaders_that_do_not_say_how_many_images_they_have_train_as_well(kind: str, tmp_path: Path) -> None:
    batches = [torch.rand(4, 1, 64, 64)] * 3
    module = tiny_module(steps_per_epoch=3)

    class Stream(IterableDataset):
        def __iter__(self):
            yield from batches

    class Batches:
        def __iter__(self):
            return iter(batches)

    data = Batches() if kind == "any iterable" else DataLoader(Stream(), batch_size=None)
    plain_trainer(tmp_path, max_epochs=1).fit(module, data)  # type: ignore[arg-type]
    assert (module.global_step, module.objective.dataset_size) == (3, 0)


def test_a_loader_without_a_length_is_one_sentence(tmp_path: Path) -> None:
    class Endless(IterableDataset):
        def __iter__(self):
            yield from torch.rand(8, 1, 64, 64)

    with pytest.raises(DeftError, match="the loader has no length: give DEFT"):
        plain_trainer(tmp_path, max_steps=1).fit(tiny_module(), DataLoader(Endless(), batch_size=4))
