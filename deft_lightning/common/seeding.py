"""Random numbers as functions of (seed, purpose, step), so that nothing random lives in a checkpoint."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What a random number is for; two purposes never share a sequence."""

    INITIALISATION = 0
    EPOCH_ORDER = 1
    NUISANCE = 2  # colours, noise, crops
    POSTERIOR = 3  # the reparameterisation noise
    EVALUATION = 4  # the fixed sample that scores are computed on
    OBJECTIVE = 5  # permutations and the like inside an objective
    SUBSET = 6  # the image that a subset is drawn around, and the seed of its anneal test
    VALIDATION = 7  # the reparameterisation noise of validation
    SPECTRUM = 8  # the sample of images whose covariance is analysed, and its nuisances
    HELD_OUT = 9  # which images are kept out of training


def derive_seed(seed: int, stream: Stream, *position: int) -> int:
    """A 64-bit seed for one purpose at one position (an epoch or a step), independent of all others."""
    # In the spawn key every word counts; in the entropy trailing zeros do not, and step 0 would equal no step.
    state = np.random.SeedSequence(seed, spawn_key=(int(stream), *position)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))  # torch takes a signed 64-bit seed


def generator(seed: int, stream: Stream, *position: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device`, seeded by `derive_seed(seed, stream, *position)`."""
    return torch.Generator(device).manual_seed(derive_seed(seed, stream, *position))
