"""The noise of the reparameterisation: a function of seed and step, drawn for many steps at once."""

from __future__ import annotations

import torch
from torch import Tensor

from deft_lightning.common.seeding import Stream, generator

BLOCK = 64
"""Steps whose noise is drawn at once, so that most steps seed no generator."""


class PosteriorNoise:
    """Standard normal noise [rows, latents] for every step of a training with `seed`."""

    def __init__(self, seed: int, latents: int) -> None:
        self._seed, self._latents = seed, latents
        self._drawn: tuple[int, Tensor] | None = None  # number of the block, and its noise [BLOCK, rows, latents]

    def at(self, step: int, rows: int, device: torch.device) -> Tensor:
        """The noise of `step` for a batch of `rows` images."""
        block, place = divmod(step, BLOCK)
        if self._drawn is None or self._drawn[0] != block or self._drawn[1].shape[1] != rows:
            random = generator(self._seed, Stream.POSTERIOR, block, device=device)
            noise = torch.randn(BLOCK, rows, self._latents, generator=random, device=device)
            self._drawn = block, noise
        return self._drawn[1][place]
