"""Small data sets, runs on them, and callbacks that disturb a run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from torch import Tensor

from deft_lightning import DEFT, BetaVAE, Groups, Piecewise
from deft_lightning.common.conf import config_folder
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.factors import FactorSpace
from deft_lightning.training.run_folder import choose


class TinySprites(FactorDataset):
    """96 images [B, channels, 64, 64] of a white square or disc, with four factors: shape, scale, posX and posY.

    With three channels the generator draws a colour for every sprite, as in Color dSprites.
    """

    name = "tiny"
    source = "rendered"
    space: FactorSpace = FactorSpace(("shape", "scale", "posX", "posY"), (2, 3, 4, 4))

    def __init__(self, channels: int = 1, **elsewhere: object) -> None:
        # `elsewhere` takes fields that the configuration of a real data set has, such as root and source.
        self.shape = (channels, 64, 64)
        shape, scale, x, y = (self.space.factors(torch.arange(96)).T[:, :, None, None]).unbind()
        pixels = torch.arange(64) + 0.5
        across, down = (pixels - (14 + 12 * x)).abs(), (pixels[:, None] - (14 + 12 * y)).abs()
        half = 5 + 2 * scale
        square, disc = torch.maximum(across, down) < half, across**2 + down**2 < half**2
        self._masks = torch.where(shape == 0, square, disc)  # [96, 64, 64]

    def __len__(self) -> int:
        return 96

    def to(self, device: torch.device | str) -> Self:
        self.device = torch.device(device)
        self._masks = self._masks.to(self.device)
        return self

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        masks = self._masks[indices.to(self.device)].float().unsqueeze(1)  # [B, 1, 64, 64]
        if self.shape[0] == 1:
            return masks
        colours = torch.rand(len(masks), 3, 1, 1, generator=generator, device=self.device)
        return masks * (0.5 + 0.5 * colours)


class BrokenSprites(TinySprites):
    """Like TinySprites, but all pixels are NaN after the first `after` training batches."""

    def __init__(self, channels: int = 1, after: int = 5, **elsewhere: object) -> None:
        super().__init__(channels)
        self._left = after

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        images = super().images(indices, generator)
        if len(indices) == TINY_BATCH:  # a training batch; those of evaluations are larger
            self._left -= 1
            if self._left < 0:
                images = images * float("nan")
        return images


TINY_BATCH = 8
TINY = (
    "+experiment=color_dsprites",
    "data._target_=tests.helpers.TinySprites",
    "+data.channels=3",
    f"batch_size={TINY_BATCH}",  # 12 steps an epoch
    "schedule.epochs=[1,1,1,1]",
    "scale=smoke",
    "scale.fraction=1",
    "scale.num_points=96",
    "callbacks.nmi_matrix.every_n_steps=24",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=4",
    "logger=csv",
)
"""Overrides for a run of 48 steps in four stages on TinySprites."""

PLAIN = ("~callbacks.traversals", "~callbacks.nmi_matrix")
"""Overrides for a run without pictures, which take most of the time of such a short run."""

BARE = (*PLAIN, "~callbacks.kl_decomposition")
"""Overrides for a run that is only scored."""


def slowly(*values: Any) -> list[Any]:
    """More values of a parametrised test, each of which trains runs: they wait for `make acceptance`."""
    import pytest  # noqa: PLC0415  # processes that train import this file

    return [pytest.param(value, marks=pytest.mark.acceptance) for value in values]


def compose_run(
    folder: Path, *overrides: str, base: tuple[str, ...] = TINY, config: str = "config"
) -> tuple[DictConfig, Path]:
    """The arguments of `run.train`: a configuration and a run folder."""
    if not OmegaConf.has_resolver("run_folder"):
        OmegaConf.register_new_resolver("run_folder", choose, use_cache=True)
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(config, overrides=[*base, *overrides]), folder


class GreySprites(TinySprites):
    """Sprites of grey value 0.75 on a background of 0.25."""

    name = "grey"

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        return 0.25 + 0.5 * super().images(indices, generator)


class UnlabelledSprites(TinySprites):
    """The images of TinySprites without factors."""

    def __init__(self, channels: int = 1, **elsewhere: object) -> None:
        super().__init__(channels)
        self.space = None


class OneImage(UnlabelledSprites):
    """One image."""

    name = "one"

    def __len__(self) -> int:
        return 1


class PaintedSprites(TinySprites):
    """The images of TinySprites under another source."""

    source = "painted"


class TwoSquares(UnlabelledSprites):
    """64 images: a square of 36 x 36 pixels at 8 places in the upper half, one of 18 x 18 at 8 in the lower half.

    `pixels` [64, 64, 64] holds all images; image 8 i + j has the large square at place i and the small one at place j.
    Either square can be left out.
    """

    name = "two squares"

    def __init__(self, large: bool = True, small: bool = True, **elsewhere: object) -> None:
        super().__init__()
        self.pixels = np.zeros((64, 64, 64))
        for index, image in enumerate(self.pixels):
            if large:
                left = 4 * (index // 8)
                image[:36, left : left + 36] = 1
            if small:
                left = round(46 * (index % 8) / 7)
                image[46:, left : left + 18] = 1

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        return torch.from_numpy(self.pixels).float()[indices].unsqueeze(1)


def correlation_eigenvalues(images: np.ndarray) -> np.ndarray:
    """Eigenvalues [N], in descending order, of the correlation matrix of the pixels of `images` [N, 64, 64] that vary.

    With Bernoulli pixels and few latents, an eigenvalue is the gain in log likelihood, in nats, for one nat of KL. A
    latent collapses under a pressure above it (Lucas et al. 2019, for the linear model).
    """
    pixels = images.reshape(len(images), -1)
    pixels = pixels[:, pixels.std(axis=0) > 0]
    pixels = (pixels - pixels.mean(axis=0)) / pixels.std(axis=0)
    return np.linalg.eigvalsh(pixels @ pixels.T / len(pixels))[::-1]


UNLABELLED = ("data._target_=tests.helpers.UnlabelledSprites",)
"""Overrides for data without labels."""


def plain_trainer(folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """A `pl.Trainer` on the CPU that writes nothing to `folder` except what `callbacks` write."""
    quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger"), False)
    return pl.Trainer(
        **{"accelerator": "cpu", "default_root_dir": folder, "callbacks": list(callbacks), **quiet, **options}
    )


class Recorder(Logger):
    """A logger that keeps `rows` of (step, numbers) and `images` of (step, key, pictures)."""

    name, version = "recorder", "0"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.images: list[tuple[int | None, str, list[Any]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        self.images.append((step, key, images))

    def column(self, key: str) -> dict[int, float]:
        """The values logged under `key`, by step."""
        return {step: numbers[key] for step, numbers in self.rows if key in numbers}


def tiny_module(**options: Any) -> DEFT:
    """DEFT with four stages of one epoch each, for grey TinySprites."""
    schedule = options.pop("schedule", None) or Piecewise([1, 1, 1, 1], [70, 30, 12, 1])
    return DEFT(Groups([3, 3, 2, 2]), schedule, BetaVAE(), **{"image_shape": (1, 64, 64), **options})


class Weights(pl.Callback):
    """Keeps the weights after every step, in `after[step]`."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.after[trainer.global_step] = {key: value.clone() for key, value in pl_module.state_dict().items()}


class Signal(pl.Callback):
    """Sends this process the signal `number` in the middle of step `step`, counted from 0."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


def send_signal(step: int, number: signal.Signals) -> tuple[str, ...]:
    """Overrides that add a `Signal` to a run."""
    target = "+callbacks.signal._target_=tests.helpers.Signal"
    return (target, f"+callbacks.signal.step={step}", f"+callbacks.signal.number={int(number)}")


class StopAfter(pl.Callback):
    """Asks the trainer to stop after `steps` steps, as early stopping does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.steps


class Pause(pl.Callback):
    """Waits `seconds` before every step."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, *_: Any) -> None:
        time.sleep(self.seconds)
