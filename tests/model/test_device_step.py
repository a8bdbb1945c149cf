"""A training step on a GPU, traced without one: nothing waits for the host, and nothing is in double precision.

The device "meta" stands for a GPU: what is on it has no values, so that a step that reads a number on the host fails.
What else a step must not do is looked for in the operators that it calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deft_lightning import DEFT, Capacity, Groups, Piecewise
from deft_lightning.data.base import FactorDataset, StoredImages
from deft_lightning.data.batches import BatchLoader
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.data.dsprites.dataset import ColorDSprites, DSprites, NoisyDSprites
from deft_lightning.data.dsprites.scream import ScreamDSprites
from deft_lightning.model import optimizers
from deft_lightning.model.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian, LearntGaussian
from deft_lightning.model.networks import Burgess, Locatello, Residual
from deft_lightning.model.objectives import BetaVAE, Objective
from tests.model.objectives.makers import MAKERS

DEVICE = torch.device("meta")
COUNT, BATCH = 64, 8

aten = torch.ops.aten
WAITS = (
    aten._local_scalar_dense.default,  # .item(), float()
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
)
BY_INDEX = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)
"""Those wait for the number of true values where the index is of booleans."""
CONSTANTS = (torch.tensor, torch.as_tensor, torch.from_numpy)


class Scan(TorchDispatchMode):
    """Collects in `faults` what a step must not do, and counts in `seen` the operators that it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: set[str] = set()
        self.seen = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += 1
        masks = any(isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1:]))
        if operator in WAITS or (operator in BY_INDEX and masks):
            self.faults.add(f"{operator}: waits for the host")
        result = operator(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if any(tensor.dtype in (torch.float64, torch.complex128) for tensor in tensors):
            self.faults.add(f"{operator}: is in double precision")
        if len({tensor.device for tensor in tensors}) > 1:
            self.faults.add(f"{operator}: copies between devices")
        elif any(tensor.device != DEVICE for tensor in tensors):
            self.faults.add(f"{operator}: works on another device")
        return result


class Calls(TorchFunctionMode):
    """Finds constants that are made on the host; draws without a generator, which "meta" has not."""

    def __init__(self, scan: Scan | None = None) -> None:
        super().__init__()
        self.scan = scan

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.scan is not None and function in CONSTANTS:
            self.scan.faults.add(f"{function.__name__}: copies a constant from the host")
        return function(*args, **{key: value for key, value in (kwargs or {}).items() if key != "generator"})


@contextmanager
def scanned() -> Iterator[Scan]:
    """Scan what the block does."""
    with Scan() as scan, Calls(scan):
        yield scan


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else "meta" lacks of a GPU: autocast, and a fused Adam."""
    make = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": make())
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    monkeypatch.setattr(sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["meta"])
    monkeypatch.setattr(optimizers, "FUSED", ("meta",))


class NoTrainer:
    """What the module reads of a trainer."""

    accumulate_grad_batches = 1
    world_size, log_every_n_steps = 1, 0


def model(monkeypatch: pytest.MonkeyPatch, objective: Objective | None = None, **options: Any) -> DEFT:
    """A model on the device, in the middle of a fit."""
    objective = objective or BetaVAE()
    capacity = objective.quantity == "capacity"
    schedule = Capacity(c_max=4, increase_steps=5, steps=10) if capacity else Piecewise([1, 1], [4, 1])
    groups = options.pop("groups", None) or Groups([3, 2])
    module = DEFT(groups, schedule, objective, image_shape=(3, 64, 64), steps_per_epoch=5, **options).to(DEVICE)
    module.objective.dataset_size = COUNT
    monkeypatch.setattr(DEFT, "trainer", NoTrainer())
    monkeypatch.setattr(DEFT, "global_step", 0)
    monkeypatch.setattr(DEFT, "global_rank", 0)
    return module


def step(module: DEFT, optimizer: torch.optim.Optimizer, images: Tensor) -> None:
    """One step as the trainer takes it: the loss, its gradients, Adam and the objective's own update."""
    loss = module.training_step(images, 0)
    optimizer.zero_grad()
    loss.backward()
    module.on_before_optimizer_step(optimizer)
    module.optimizer_step(0, 0, optimizer)


def scan(module: DEFT) -> Scan:
    """What the second of two steps does: the first of a stage may copy what changes with the stage."""
    optimizer: Any = module.configure_optimizers()
    images = torch.empty(BATCH, 3, 64, 64, device=DEVICE)
    with Calls():
        step(module, optimizer, images)
    with scanned() as found:
        step(module, optimizer, images)
    assert found.seen > 50
    return found


OBJECTIVES: dict[str, Callable[[], Objective]] = MAKERS


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_waits_for_the_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scan(model(monkeypatch, OBJECTIVES[name]())).faults == set()


CHOICES: dict[str, Callable[[], dict[str, Any]]] = {
    "bernoulli": lambda: {"likelihood": Bernoulli()},
    "gaussian": lambda: {"likelihood": Gaussian(0.1)},
    "gaussian_learnt": lambda: {"likelihood": LearntGaussian()},
    "continuous_bernoulli": lambda: {"likelihood": ContinuousBernoulli()},
    "burgess": lambda: {"networks": Burgess()},
    "locatello": lambda: {"networks": Locatello()},
    "residual": lambda: {"networks": Residual(8)},
    "frozen": lambda: {"groups": Groups([3, 2], inactive="frozen")},
    "prior": lambda: {"groups": Groups([3, 2], inactive="prior", adam_at_switch="kept")},
    "gradient": lambda: {"groups": Groups([3, 2], gamma_on="gradient", adam_at_switch="reset")},
}


@pytest.mark.parametrize("choice", CHOICES)
def test_no_likelihood_network_or_variant_waits_for_the_host(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scan(model(monkeypatch, **CHOICES[choice]())).faults == set()


class Stored(StoredImages):
    name, source, shape = "stored", "file", (3, 64, 64)


def on_device(dataset: FactorDataset) -> FactorDataset:
    """`dataset` without its files, as it is after `to(device)`."""
    dataset.device = DEVICE
    with DEVICE:
        if isinstance(dataset, StoredImages):
            dataset._pixels = torch.empty(COUNT, *dataset.shape, dtype=torch.uint8)
        if isinstance(dataset, DSprites):
            dataset._packed = torch.empty(COUNT, 512, dtype=torch.uint8)
            dataset._unpacking = torch.empty(256, 8 * dataset.shape[0])
        if isinstance(dataset, ScreamDSprites):
            dataset._half = torch.empty(274, 217, 3)
    return dataset


@pytest.mark.parametrize("kind", [DSprites, ColorDSprites, NoisyDSprites, ScreamDSprites, Stored])
def test_no_batch_of_a_data_set_on_the_device_waits_for_the_host(kind: type[FactorDataset]) -> None:
    """From the loader to the images: only the order of an epoch is copied."""
    dataset = on_device(kind.__new__(kind))
    data = FactorDataModule(dataset, BATCH)
    data._loader = BatchLoader(COUNT, BATCH, seed=0, device=DEVICE)
    batches = iter(data._loader)
    next(batches)
    with scanned() as found:
        images = data.on_after_batch_transfer(data.transfer_batch_to_device(next(batches), DEVICE, 0), 0)
    assert images.shape == (BATCH, *dataset.shape)
    assert images.dtype == torch.float32
    assert found.faults == set()


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (lambda x: x.sum().item(), "host"),
        (lambda x: x[x > 0], "host"),
        (lambda x: x + torch.tensor(1.0, device=x.device), "constant"),
        (lambda x: x.double(), "double"),
        (lambda x: torch.ones(3).to(x.device), "between devices"),
        (lambda x: torch.ones(3), "another device"),
    ],
)
def test_the_scan_finds_what_it_looks_for(fault: Callable[[Tensor], Any], word: str) -> None:
    with scanned() as found:
        try:
            fault(torch.empty(3, device=DEVICE))
        except Exception:  # a tensor without values cannot be read at all
            assert word == "host"
    assert any(word in text for text in found.faults)
