"""DEFT as a LightningModule: encoder groups, a schedule and an objective, trained by Algorithm 1 of the paper.

A baseline is a configuration of this module, not a subclass: a beta-VAE has one group and a constant pressure.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, derive_seed, generator
from deft_lightning.model import compiling
from deft_lightning.model.checkpoint import CHECKPOINT_KEY, describe_model, model_of
from deft_lightning.model.compiling import Step, compiled_step, plain_step
from deft_lightning.model.flush import FlushSubnormals
from deft_lightning.model.groups import Groups
from deft_lightning.model.inference import Inference, name_latents
from deft_lightning.model.likelihoods import Bernoulli, Likelihood
from deft_lightning.model.networks import Burgess, Networks, Posterior, check_shapes
from deft_lightning.model.noise import PosteriorNoise
from deft_lightning.model.objectives import Loss, Objective, loss_function
from deft_lightning.model.optimizers import Adam, OptimizerFactory
from deft_lightning.model.schedules.base import Schedule, Stage, Timeline
from deft_lightning.model.schedules.observed import ObservedTimeline

log = logging.getLogger(__name__)

# A data module without validation images is the usual one here.
warnings.filterwarnings("ignore", message="You defined a `validation_step` but have no `val_dataloader`")


class Output(NamedTuple):
    """What `DEFT.forward` computes for images [B, C, H, W].

    Attributes:
        posterior: [B, D].
        sample: latents that were decoded, [B, D].
        parameters: of the likelihood, [B, C, H, W]; logits of a Bernoulli.
    """

    posterior: Posterior
    sample: Tensor
    parameters: Tensor


class DEFT(Inference):
    """A VAE with several encoder groups: the active group learns at `lr`, every other group at gamma x `lr`.

    A training batch is images, float32 [B, C, H, W] in [0, 1]. The stage, its pressure and the learning rates are
    functions of the global step.

    Args:
        groups: latents of every encoder group, and gamma.
        schedule: stages and their pressures.
        objective: the loss.
        networks: encoders and decoder; those of the paper, `Burgess`, by default.
        likelihood: what the output of the decoder means; that of the paper, `Bernoulli`, by default.
        optimizer: of the encoders and the decoder; `Adam` by default.
        image_shape: channels, height and width of the images.
        lr: learning rate of the active group and the decoder.
        seed: of the initial weights, the noise of the samples and the objective.
        steps_per_epoch: optimiser steps of an epoch; taken from the trainer by default.
        compiled: whether to compile with torch.compile what gains by it on the device, see `model.compiling`. Without a
            compiler the model trains uncompiled.

    Raises:
        DeftError: if the schedule does not fit the groups or the objective, or the networks do not fit the images.
    """

    latent_mask: Tensor
    """[D], 1 for latents that encode. Only with `groups.inactive` "prior"."""
    last_loss: Loss
    """Loss of the latest training step, detached. Callbacks read `last_loss.parts`."""

    def __init__(
        self,
        groups: Groups,
        schedule: Schedule,
        objective: Objective,
        networks: Networks | None = None,
        *,
        likelihood: Likelihood | None = None,
        optimizer: OptimizerFactory | None = None,
        image_shape: tuple[int, int, int] = (3, 64, 64),
        lr: float = 5e-4,
        seed: int = 0,
        steps_per_epoch: int | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        groups.check(schedule.stages)
        objective.check(schedule)
        self.image_shape = image_shape
        self.groups, self.schedule, self.objective = groups, schedule, objective
        self.networks = networks or Burgess()
        self.likelihood = likelihood or Bernoulli()
        self.optimizer = optimizer or Adam()
        self.lr, self.seed, self._steps_per_epoch = lr, seed, steps_per_epoch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, Stream.INITIALISATION))
            self.encoder = self.networks.encoders(image_shape, groups.latents)
            self.decoder = self.networks.decoder(image_shape, sum(groups.latents))
            objective.build(sum(groups.latents))
            self.networks.initialise(self)
            check_shapes(self.networks, self.encoder, self.decoder, image_shape, groups.latents)
        if groups.inactive == "prior":
            # A buffer is saved with the weights, so that a model loaded from a checkpoint encodes as it did before.
            self.register_buffer("latent_mask", torch.tensor(groups.latent_mask_at(0), dtype=torch.float32))  # [D]
        self.latent_names = name_latents([], sum(groups.latents))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU
        self._compiled = compiled
        self._trained_steps = 0  # of a model from a checkpoint
        self._step: Step | None = None
        self._pressure: tuple[float, Tensor] | None = None
        self._masked: int | None = None  # the stage that `latent_mask` is of
        self.sample: Tensor  # [B, D] of the latest loss, detached, for `objective.update`
        self._noise = PosteriorNoise(seed, sum(groups.latents))
        self._update_log: dict[str, Tensor] = {}
        self._options: list[dict[str, Any]] = []  # of the optimiser, by parameter group

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Encode `images` [B, C, H, W], sample with `noise` [B, D] and decode. Without noise the means are decoded.

        Under mixed precision the networks compute in half precision, everything between and after them in single.
        """
        posterior = self.infer(images)
        sample = posterior.mean if noise is None else posterior.sample(noise)
        return Output(posterior, sample, _full(self.decoder(sample)))

    def infer(self, images: Tensor) -> Posterior:
        """The posterior of a batch `images` [B, C, H, W], mean and log variance [B, D], with gradients.

        `encode` is for everything but training.
        """
        posterior = Posterior(*map(_full, self.encoder(images)))
        if self.groups.inactive != "prior":
            return posterior
        # Groups whose stage has not begun have the prior: mean 0 and log variance 0.
        return Posterior(posterior.mean * self.latent_mask, posterior.log_variance * self.latent_mask)

    def compute_loss(self, images: Tensor, noise: Tensor, pressure: Tensor) -> Loss:
        """The loss of the objective for `images` [B, C, H, W] in [0, 1], `noise` [B, D] and a scalar `pressure`.

        Only its `total` has gradients.
        """
        if self._step is None:  # the device is not known before
            loss_of = loss_function(self.likelihood, self.objective)
            step = (images, noise, pressure)
            self._step = compiled_step(self, loss_of, step) if self._compiled else plain_step(self, loss_of)
        loss, self.sample, parameters = self._step(images, noise, pressure)
        learnt = self.likelihood.update(parameters, images) if self.training else {}
        return Loss(loss.total, {**loss.parts, **learnt})

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch. Raises `DeftError` for a loader without a length."""
        if self._steps_per_epoch is None:
            batches = self.trainer.num_training_batches
            if math.isinf(batches):
                raise DeftError("the loader has no length: give DEFT(steps_per_epoch=...), the steps of an epoch.")
            self._steps_per_epoch = math.ceil(batches / self.trainer.accumulate_grad_batches)
        return self._steps_per_epoch

    @cached_property
    def timeline(self) -> Timeline:
        """The schedule in optimiser steps."""
        return self.schedule.timeline(self.steps_per_epoch)

    @property
    def stage(self) -> Stage:
        """The stage and pressure of the next training step."""
        return self.timeline.at(max(self.global_step, self._trained_steps))

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes its own step: that of this model computes with the weights of this model."""
        return {**super().__getstate__(), "_step": None}

    def configure_callbacks(self) -> list[pl.Callback]:
        """A callback that every fit needs, whoever calls it."""
        return [FlushSubnormals()]

    def on_fit_start(self) -> None:
        """Forget the steps of the checkpoint that the model was loaded from: the schedule follows the trainer's."""
        self._trained_steps = 0
        if not self.global_step:
            self.__dict__.pop("timeline", None)  # it may have followed another training

    def on_train_start(self) -> None:
        """Pass the number of training images to the objective. Raises `DeftError` for a schedule that nothing feeds."""
        if isinstance(self.timeline, ObservedTimeline) and not self.timeline.reported:
            raise DeftError(
                "this schedule follows the training, and nothing reports the steps to it: add AdaptiveStages() of "
                "deft_lightning.training.callbacks to the callbacks of the trainer."
            )
        # A replay overwrites the gradients of the batch before.
        if self.trainer.accumulate_grad_batches > 1 and self.device.type in compiling.GRAPHED:
            self._compiled, self._step = False, None
        self._masked = None  # a checkpoint may have brought another mask
        # A checkpoint that the run starts from (`init_from`) has brought the options of its own optimiser.
        for group, options in zip(self.trainer.optimizers[0].param_groups, self._options, strict=True):
            group.update(options)
        self.objective.dataset_size = _images_of(self.trainer.train_dataloader)

    def training_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch under the pressure of its stage. Labels beside the images are ignored."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        step = self.global_step
        images = images.contiguous(memory_format=torch.channels_last)
        stage = self.stage
        self._mask_latents(stage.index)
        pressure = self._pressure_on(images.device, float(stage.pressure))
        accumulated = self.trainer.accumulate_grad_batches  # batches of a step, each with noise of its own
        place = step * accumulated + batch_idx % accumulated
        noise = self._noise.at(place, len(images) * self.trainer.world_size, images.device)
        noise = noise[len(images) * self.global_rank :][: len(images)]  # of the global batch, the part of this process
        loss = self.compute_loss(images, noise, pressure)
        self.last_loss = loss._replace(total=loss.total.detach().clone())  # replayed graphs overwrite the total
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (step + 1) % every == 0:
            self.log_dict({"stage": stage.index + 1.0, self.schedule.quantity: stage.pressure})
            self.log_dict({f"train/{name}": value for name, value in _scalars(self.last_loss.parts)}, sync_dist=True)
        return loss.total

    def _mask_latents(self, stage: int) -> None:
        """With `groups.inactive` "prior", let the latents encode whose stage has begun."""
        if self.groups.inactive == "prior" and stage != self._masked:
            self.latent_mask.copy_(torch.tensor(self.groups.latent_mask_at(stage)))
            self._masked = stage

    def _pressure_on(self, device: torch.device, pressure: float) -> Tensor:
        """`pressure` as a scalar on `device`, filled there and only when it changes: a copy would wait for the host."""
        if self._pressure is None or self._pressure[0] != pressure or self._pressure[1].device != device:
            self._pressure = pressure, torch.full((), pressure, device=device)
        return self._pressure[1]

    def validation_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> None:
        """Log the parts of the loss of a batch under the pressure of the latest step, for `Trainer.validate`."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        parts = self.validation_parts(images, batch_idx, self.global_rank)
        values = {f"validation/{name}": value for name, value in parts.items()}
        self.log_dict(values, on_epoch=True, batch_size=len(images), sync_dist=True)

    def validation_parts(self, images: Tensor, place: int, rank: int = 0) -> dict[str, Tensor]:
        """The loss and its parts, by name, for `images` [B, C, H, W] under the pressure of the latest step.

        The noise is a function of the seed, of the place of the batch and of the rank of the process.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        random = generator(self.seed, Stream.VALIDATION, place, rank)
        noise = torch.randn(len(images), sum(self.groups.latents), generator=random).to(images.device)
        posterior, sample, parameters = self(images, noise)
        steps = max(self.global_step, self._trained_steps)
        # Before the first step an epoch may have no length yet; the first pressure does not depend on it.
        latest = self.timeline.at(steps - 1) if steps else self.schedule.timeline(1).at(0)
        pressure = torch.tensor(float(latest.pressure), device=images.device)
        loss = loss_function(self.likelihood, self.objective)(images, parameters, posterior, sample, pressure)
        return {"loss": loss.total, **dict(_scalars(loss.parts))}

    def configure_optimizers(self) -> Optimizer:
        """The optimiser, with one parameter group for every encoder group, in order, and one for the decoder."""
        parameters = [
            *({"params": g.parameters(), "name": f"encoder/{i}"} for i, g in enumerate(self.encoder.groups)),
            {"params": self.decoder.parameters(), "name": "decoder"},
        ]
        optimizer = self.optimizer.make(parameters, self.lr, self.device.type)
        kept = ("params", "lr")
        self._options = [{k: v for k, v in group.items() if k not in kept} for group in optimizer.param_groups]
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep all that `load_from_checkpoint` needs, as plain values."""
        checkpoint[CHECKPOINT_KEY] = describe_model(self)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = None, *, trust: bool = False, **parts: Any
    ) -> Self:
        """The model of a checkpoint, as it was saved by a run or by `Trainer.fit`.

        Args:
            checkpoint_path: the file.
            map_location: the device of the model; the CPU by default.
            trust: whether to import classes from outside this package that the file names.
            parts: arguments of the constructor to use instead of those in the file, such as `objective`.

        Raises:
            DeftError: for a missing or damaged file, one of another version, and classes that are not trusted.
        """
        model, steps = model_of(cls, Path(checkpoint_path), trust, parts)
        model._trained_steps = steps
        return model if map_location is None else model.to(map_location)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """With `groups.gamma_on` "gradient", scale the gradients of the inactive groups before Adam uses them."""
        if self.groups.gamma_on == "gradient":
            for parameters, scale in zip(optimizer.param_groups, self.groups.scales(self.stage.index), strict=False):
                scale_gradients(parameters["params"], scale)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Algorithm 1: the active group and the decoder learn at `lr`, every other group at gamma x `lr`."""
        rates = (*self.groups.learning_rates(self.stage.index, self.lr), self.lr)
        for parameters, rate in zip(optimizer.param_groups, rates, strict=True):
            parameters["lr"] = rate
        if self.global_step in self.timeline.boundaries:
            self._begin_stage(getattr(optimizer, "optimizer", optimizer))  # Lightning wraps the optimiser
        optimizer.step(closure=optimizer_closure)
        if self.objective.learns:
            # The same numbers on every rank: each trains the objective on the global batch.
            random = generator(self.seed, Stream.OBJECTIVE, self.global_step, device=self.sample.device)
            self._update_log = self.objective.update(self.sample, random)

    def _begin_stage(self, optimizer: Optimizer) -> None:
        """Reset Adam's state at a stage boundary, as `groups.adam_at_switch` and `groups.inactive` require."""
        if self.groups.adam_at_switch == "reset":
            optimizer.state.clear()
        elif self.groups.inactive == "prior":
            # The gradients of the group whose stage begins were zero until now. Adam's moments are 0 but its step count
            # is not, so that its first step would be three times the learning rate.
            for parameter in self.encoder.groups[self.groups.active(self.stage.index)].parameters():
                optimizer.state.pop(parameter, None)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the values that `objective.update` returned."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self._update_log and every and self.global_step % every == 0:
            self.log_dict({f"train/{name}": value for name, value in _scalars(self._update_log)})


def _images_of(loader: Any) -> int:
    """The images of an epoch; 0 where the loader does not say, as one of a stream of data."""
    if hasattr(loader, "size"):
        return int(loader.size)
    try:
        return len(loader.dataset)
    except (AttributeError, TypeError):
        return 0


def _full(values: Tensor) -> Tensor:
    """`values` in at least single precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def scale_gradients(parameters: Iterable[nn.Parameter], scale: float) -> None:
    """Multiply the gradients of `parameters` by `scale`, in place. Parameters without a gradient are skipped."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if scale != 1 and gradients:
        torch._foreach_mul_(gradients, scale)


def _scalars(parts: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    """`parts` with one scalar per latent for each vector [D]: kl/latent_00, kl/latent_01, ... for kl/latent."""
    rows: list[tuple[str, Tensor]] = []
    for name, value in parts.items():
        if value.dim() == 0:
            rows.append((name, value))
        else:
            rows += [(f"{name}_{i:02d}", v) for i, v in enumerate(value)]
    return rows
