"""A training step on a GPU, traced without one: nothing waits for the host, and nothing is in double precision.

Tensors that only pretend to be on a device have no values: a step that reads one on the host fails, and so does one
that mixes devices. What else a step must not do is looked for in the operators that it calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deft_lightning import DEFT, Capacity, Groups, Piecewise
from deft_lightning.data.base import FactorDataset, StoredImages
from deft_lightning.data.batches import BatchLoader
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.data.dsprites.dataset import ColorDSprites, DSprites, NoisyDSprites, unpacking_table
from deft_lightning.data.dsprites.scream import ScreamDSprites
from deft_lightning.model.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian, LearntGaussian
from deft_lightning.model.networks import Burgess, Locatello, Residual
from deft_lightning.model.objectives import BetaVAE, Objective
from tests.model.objectives.makers import MAKERS

DEVICES = ("cuda", "mps")
COUNT, BATCH = 64, 8

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense.default: "reads a number on the host",
    aten.lift_fresh.default: "copies a constant from the host",
    aten.nonzero.default: "counts on the host, as an index of booleans does",
    aten.masked_select.default: "counts on the host",
    aten._unique2.default: "counts on the host",
}


class Scan(TorchDispatchMode):
    """Collects in `faults` what a step on `device` must not do, and counts the operators that it calls in `seen`."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.faults, self.seen = device, set(), 0  # type: ignore[var-annotated]

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        self.seen += 1
        if operator in WAITS:
            self.faults.add(f"{operator}: {WAITS[operator]}")
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if any(tensor.dtype in (torch.float64, torch.complex128) for tensor in tensors):
            self.faults.add(f"{operator}: is in double precision")
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.faults.add(f"{operator}: copies between devices")
        elif any(tensor.device.type != self.device for tensor in tensors):
            self.faults.add(f"{operator}: works on another device")
        return result


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A device that tensors pretend to be on inside the test; generators stay on the host."""
    make = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": make())
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield request.param


class NoTrainer:
    """What the module reads of a trainer."""

    world_size, log_every_n_steps = 1, 0


def model(device: str, monkeypatch: pytest.MonkeyPatch, objective: Objective | None = None, **options: Any) -> DEFT:
    """A model on `device`, in the middle of a fit."""
    objective = objective or BetaVAE()
    capacity = objective.quantity == "capacity"
    schedule = Capacity(c_max=4, increase_steps=5, steps=10) if capacity else Piecewise([1, 1], [4, 1])
    groups = options.pop("groups", None) or Groups([3, 2])
    with torch.device(device):
        module = DEFT(groups, schedule, objective, image_shape=(3, 64, 64), steps_per_epoch=5, **options)
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


def scan(device: str, module: DEFT) -> Scan:
    """What the second of two steps does: the first of a stage may copy what changes with the stage."""
    optimizer: Any = module.configure_optimizers()
    images = torch.empty(BATCH, 3, 64, 64, device=device)
    step(module, optimizer, images)
    with Scan(device) as found:
        step(module, optimizer, images)
    assert found.seen > 50
    return found


OBJECTIVES: dict[str, Callable[[], Objective]] = MAKERS


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_waits_for_the_host(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scan(device, model(device, monkeypatch, OBJECTIVES[name]())).faults == set()


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
def test_no_likelihood_network_or_variant_waits_for_the_host(
    choice: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scan(device, model(device, monkeypatch, **CHOICES[choice]())).faults == set()


class Stored(StoredImages):
    name, source, shape = "stored", "file", (3, 64, 64)


def on(dataset: FactorDataset, device: str) -> FactorDataset:
    """`dataset` without its files, as it is after `to(device)`."""
    dataset.device = torch.device(device, 0)
    with torch.device(device):
        if isinstance(dataset, StoredImages):
            dataset._pixels = torch.empty(COUNT, *dataset.shape, dtype=torch.uint8)
        if isinstance(dataset, DSprites):
            dataset._packed = torch.empty(COUNT, 512, dtype=torch.uint8)
            dataset._unpacking = torch.empty(256, 8 * dataset.shape[0])
        if isinstance(dataset, ScreamDSprites):
            dataset._half = torch.empty(274, 217, 3)
    return dataset


@pytest.mark.parametrize("kind", [DSprites, ColorDSprites, NoisyDSprites, ScreamDSprites, Stored])
def test_no_batch_of_a_data_set_on_the_device_waits_for_the_host(
    kind: type[FactorDataset], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the loader to the images: only the order of an epoch is copied."""
    dataset = on(kind.__new__(kind), device)
    data = FactorDataModule(dataset, BATCH)
    moved: list[Any] = []

    def to(order: Tensor, where: Any) -> Tensor:
        moved.append(where)
        return torch.empty(order.shape, dtype=order.dtype, device=where)

    monkeypatch.setattr(Tensor, "to", to)
    data._loader = loader = BatchLoader(COUNT, BATCH, seed=0, device=dataset.device)
    batches = iter(loader)
    next(batches)
    assert moved == [dataset.device]
    monkeypatch.undo()
    make = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": make())
    with Scan(device) as found:
        images = data.on_after_batch_transfer(data.transfer_batch_to_device(next(batches), dataset.device, 0), 0)
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
        (lambda x: x.cpu(), "between devices"),
        (lambda x: torch.ones(3), "another device"),
    ],
)
def test_the_scan_finds_what_it_looks_for(fault: Callable[[Tensor], Any], word: str, device: str) -> None:
    with Scan(device) as found:
        try:
            fault(torch.empty(3, device=device))
        except Exception as error:  # a tensor without values cannot be read at all
            found.faults.add(f"host: {error}")
    assert any(word in text for text in found.faults)
    assert unpacking_table(1).dtype == torch.float32
