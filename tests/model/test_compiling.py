"""What of a step is compiled on which device, and that a replayed graph computes what the plain step does.

Nothing here needs a GPU: the CPU stands for it, and another backend, or a function that overwrites its outputs as a
replay does, for the graph.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.data import DataLoader

from deft_lightning import DEFT, Capacity, Groups, Piecewise
from deft_lightning.common.seeding import Stream, generator
from deft_lightning.model import compiling
from deft_lightning.model.likelihoods import LearntGaussian, Likelihood
from deft_lightning.model.objectives import BetaVAE, FactorVAE, Objective
from tests.helpers import plain_trainer
from tests.model.objectives.makers import MAKERS

LATENTS, SHAPE = (3, 2), (1, 32, 32)
COMPILE = torch.compile


def model(objective: Objective | None = None, likelihood: Likelihood | None = None, compiled: bool = False) -> DEFT:
    objective = objective or BetaVAE()
    by_capacity = objective.quantity == "capacity"
    schedule = Capacity(c_max=4, increase_steps=5, steps=10) if by_capacity else Piecewise([1, 1], [4, 1])
    options: dict[str, Any] = {"image_shape": SHAPE, "steps_per_epoch": 5, "compiled": compiled}
    result = DEFT(Groups(LATENTS), schedule, objective, likelihood=likelihood, **options)
    result.objective.dataset_size = 100
    return result


def batch(seed: int, count: int = 4) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(count, *SHAPE, generator=random)
    return images, torch.randn(count, sum(LATENTS), generator=random)


def train(module: DEFT, pressures: tuple[float, ...] = (4.0, 4.0, 1.0)) -> list[dict[str, Tensor]]:
    """Parts of the loss in a step of Adam under each pressure."""
    optimizer = module.configure_optimizers()
    parts = []
    for step, pressure in enumerate(pressures):
        optimizer.zero_grad()
        loss = module.compute_loss(*batch(step), torch.full((), pressure))
        loss.total.backward()
        optimizer.step()
        if module.objective.learns:
            module.objective.update(module.sample, generator(0, Stream.OBJECTIVE, step))
        parts.append({name: value.detach() for name, value in loss.parts.items()})
    return parts


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Makes the CPU a device whose steps are replayed as graphs, compiled by the given function."""

    def replay_with(compiler: Callable[..., Any]) -> None:
        monkeypatch.setattr(compiling, "GRAPHED", ("cpu",))
        monkeypatch.setattr(compiling, "can_compile", lambda device: True)
        monkeypatch.setattr(torch, "compile", compiler)

    return replay_with


def same(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-4, atol=2e-4)


@pytest.mark.slow  # traces the whole step of nine objectives
@pytest.mark.parametrize("name", MAKERS)
def test_the_step_of_every_objective_is_one_graph_that_is_traced_once(name: str, graphs: Any) -> None:
    """Neither a new pressure, nor a step of the weights, nor an update of the discriminator traces it again.

    The update itself, where there is one, is a second graph.
    """
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    graphs(traced_by(counter))
    plain, graphed = model(MAKERS[name]()), model(MAKERS[name](), compiled=True)
    same(train(graphed), train(plain))
    assert counter.frame_count == 1 + graphed.objective.learns
    for (key, ours), theirs in zip(graphed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-4, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.slow  # compiles networks and loss
@pytest.mark.skipif(not compiling.can_compile("cpu"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("objective", [BetaVAE, lambda: FactorVAE(hidden=16, layers=2)], ids=["beta_vae", "factor_vae"])
def test_what_inductor_makes_of_the_step_computes_the_same(objective: Any, graphs: Any) -> None:
    torch.compiler.reset()
    graphs(COMPILE)
    graphed = model(objective(), LearntGaussian(), compiled=True)
    same(train(graphed), train(model(objective(), LearntGaussian())))
    assert graphed._step.__name__ == "graphed"  # it has not failed
    if graphed.objective.learns:
        assert graphed.objective._classify.__name__ == "graphed"  # type: ignore[union-attr, operator]


def traced_by(backend: Any) -> Callable[..., Any]:
    """What makes graphs, with another backend."""
    return lambda step, dynamic, fullgraph, mode: COMPILE(step, dynamic=dynamic, fullgraph=fullgraph, backend=backend)


@pytest.mark.slow  # traces a step and an update
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_in_a_training_nothing_is_traced_again_after_the_trial(precision: str, graphs: Any, tmp_path: Path) -> None:
    """Lightning's autocast region surrounds the step and its trial, but not the update of the discriminator."""
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    graphs(traced_by(counter))
    graphed = model(FactorVAE(hidden=16, layers=2), compiled=True)
    trainer = plain_trainer(tmp_path, accelerator="cpu", precision=precision, max_epochs=1)
    trainer.fit(graphed, DataLoader(batch(0, 16)[0], batch_size=4))
    assert graphed.global_step == 4
    assert counter.frame_count == 2


@pytest.mark.slow  # traces ten models
def test_the_tenth_model_of_a_process_is_compiled_as_well(graphs: Any) -> None:
    """By default PyTorch compiles a function for eight kinds of model, and then fails."""
    torch.compiler.reset()
    graphs(traced_by("eager"))
    for hidden in range(1, 11):
        graphed = model(FactorVAE(hidden=hidden, layers=1), compiled=True)
        graphed.compute_loss(*batch(0), torch.tensor(4.0))
        assert graphed._step.__name__ == graphed.objective._classify.__name__ == "graphed"  # type: ignore


@pytest.mark.slow  # traces a model
def test_the_backward_of_a_graph_gets_the_gradient_of_the_loss_alone(graphs: Any) -> None:
    """For every other output with gradients a step would make and add zeros."""
    torch.compiler.reset()
    received: list[list[str]] = []

    def backward(graph: Any, inputs: Any) -> Any:
        received.append([node.name for node in graph.graph.nodes if node.name.startswith("tangents")])
        return make_boxed_func(graph.forward)

    graphs(traced_by(aot_autograd(fw_compiler=lambda g, _: make_boxed_func(g.forward), bw_compiler=backward)))
    graphed, plain = model(compiled=True), model()
    losses = [module.compute_loss(*batch(0), torch.tensor(4.0)) for module in (graphed, plain)]
    assert [len(names) for names in received] == [1]
    assert not any(part.requires_grad for loss in losses for part in loss.parts.values())


def test_in_deterministic_mode_no_kernel_is_chosen_by_its_speed(graphs: Any) -> None:
    made: list[Replayed] = []
    graphs(lambda step, **options: made.append(Replayed(step, **options)) or made[-1])
    torch.use_deterministic_algorithms(True)
    try:
        model(compiled=True).compute_loss(*batch(0), torch.tensor(4.0))
    finally:
        torch.use_deterministic_algorithms(False)
    assert made[0].options.pop("options") == {"triton.cudagraphs": True, "deterministic": True}
    assert made[0].options == {"dynamic": False, "fullgraph": True}


class Replayed:
    """Stands for a graph: all its outputs are written into the memory of the last replay. `runs` counts them.

    The one with gradients is a new tensor: it is used at once.
    """

    def __init__(self, step: Any, **options: Any) -> None:
        self.step, self.options, self.runs = step, options, 0
        self.memory: list[Tensor] = []

    def __call__(self, *arguments: Tensor) -> Any:
        self.runs += 1
        leaves, spec = tree_flatten(self.step(*arguments))
        values = [leaf for leaf in leaves if not leaf.requires_grad]
        with torch.no_grad():
            self.memory = self.memory or [value.detach().clone() for value in values]
            for memory, value in zip(self.memory, values, strict=True):
                memory.copy_(value)
        memories = iter(self.memory)
        return tree_unflatten([leaf if leaf.requires_grad else next(memories) for leaf in leaves], spec)


def test_what_outlives_a_step_is_not_overwritten_by_the_next(graphs: Any) -> None:
    made: list[Replayed] = []
    graphs(lambda step, **options: made.append(Replayed(step, **options)) or made[-1])
    graphed, plain = model(compiled=True), model()
    images, noise = batch(0)
    first = graphed.compute_loss(images, noise, torch.tensor(4.0)).parts
    sample = graphed.sample
    graphed.compute_loss(*batch(1), torch.tensor(4.0))
    expected = plain.compute_loss(images, noise, torch.tensor(4.0)).parts
    assert all(torch.equal(first[name], value) for name, value in expected.items())
    assert torch.equal(sample, plain.sample)
    assert made[0].options == {"dynamic": False, "fullgraph": True, "mode": "reduce-overhead"}
    assert made[0].runs == compiling.TRIALS + 2


def test_what_an_update_logs_is_not_overwritten_by_the_next(graphs: Any) -> None:
    made: list[Replayed] = []
    graphs(lambda step, **options: made.append(Replayed(step, **options)) or made[-1])
    graphed, plain = (model(FactorVAE(hidden=16, layers=2), compiled=value) for value in (True, False))
    logged: list[list[dict[str, Tensor]]] = [[], []]
    for outcomes, module in zip(logged, (graphed, plain), strict=True):
        module.compute_loss(*batch(0), torch.tensor(4.0))
        samples = [batch(step)[1] for step in range(3)]
        outcomes += [module.objective.update(s, generator(0, Stream.OBJECTIVE, i)) for i, s in enumerate(samples)]
    same(*logged)
    assert made[1].runs == compiling.TRIALS + 3
    graphed.objective.update(batch(0, count=3)[1], generator(0, Stream.OBJECTIVE, 0))  # samples of another number
    assert made[1].runs == compiling.TRIALS + 3


def test_a_copy_of_a_graphed_update_trains_its_own_discriminator(graphs: Any) -> None:
    graphs(Replayed)
    graphed = model(FactorVAE(hidden=16, layers=2), compiled=True)
    graphed.compute_loss(*batch(0), torch.tensor(4.0))
    other = copy.deepcopy(graphed)
    for _ in range(2):
        other.objective.update(batch(0)[1], generator(0, Stream.OBJECTIVE, 0))
    before, after = (list(module.objective.parameters()) for module in (graphed, other))
    assert not any(map(torch.equal, before, after))
    graphed.objective.update(batch(0)[1], generator(0, Stream.OBJECTIVE, 0))
    graphed.objective.update(batch(0)[1], generator(0, Stream.OBJECTIVE, 0))
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("objective", [BetaVAE, lambda: FactorVAE(hidden=16, layers=2)], ids=["beta_vae", "factor_vae"])
def test_the_trial_leaves_no_trace(objective: Any, graphs: Any) -> None:
    """Weights, gradients, buffers and random numbers are those of a model that was never tried."""
    graphs(Replayed)
    graphed, plain = model(objective(), LearntGaussian(), compiled=True), model(objective(), LearntGaussian())
    random = torch.get_rng_state()
    for module in (graphed, plain):
        module.compute_loss(*batch(0), torch.tensor(4.0)).total.backward()
    assert torch.equal(torch.get_rng_state(), random)
    for ours, theirs in zip(graphed.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert (ours.grad is None) == (theirs.grad is None) == (not ours.requires_grad)
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad)
    assert all(map(torch.equal, graphed.buffers(), plain.buffers()))


def test_other_batches_and_steps_without_gradients_run_plainly(graphs: Any) -> None:
    made: list[Replayed] = []
    graphs(lambda step, **options: made.append(Replayed(step, **options)) or made[-1])
    graphed, plain = model(compiled=True), model()
    graphed.compute_loss(*batch(0), torch.tensor(4.0))
    runs = made[0].runs
    assert torch.equal(*(m.compute_loss(*batch(1, 3), torch.tensor(4.0)).total for m in (graphed, plain)))
    with torch.no_grad():
        graphed.compute_loss(*batch(0), torch.tensor(4.0))
    assert made[0].runs == runs
    graphed.compute_loss(*batch(0), torch.tensor(4.0))
    assert made[0].runs == runs + 1


def test_gradients_that_are_added_up_over_batches_are_not_those_of_graphs(graphs: Any, tmp_path: Path) -> None:
    """A replay would overwrite the gradients of the batch before."""
    graphs(Replayed)
    for batches, name in ((1, "graphed"), (2, "step")):
        graphed = model(compiled=True)
        trainer = plain_trainer(tmp_path, accelerator="cpu", accumulate_grad_batches=batches, max_epochs=1)
        trainer.fit(graphed, DataLoader(batch(0, 16)[0], batch_size=4))
        assert graphed._step.__name__ == name


class BackwardFails(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError("operation not permitted when stream is capturing")


def forward_fails(step: Any, **options: Any) -> Any:
    def failing(*arguments: Tensor) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    return failing


def backward_fails(step: Any, **options: Any) -> Any:
    def failing(*arguments: Tensor) -> Any:
        loss, *others = step(*arguments)
        return loss._replace(total=BackwardFails.apply(loss.total)), *others

    return failing


@pytest.mark.parametrize("compiler", [forward_fails, backward_fails])
def test_where_capture_fails_there_is_one_line_and_the_plain_step(compiler: Any, graphs: Any, caplog: Any) -> None:
    caplog.set_level("INFO", "deft_lightning")
    graphs(compiler)
    same(train(model(compiled=True)), train(model()))
    assert caplog.messages == [
        "torch.compile failed (RuntimeError: operation not permitted when stream is capturing): training without it."
    ]


def test_where_the_capture_of_an_update_fails_the_step_is_graphed_all_the_same(graphs: Any, caplog: Any) -> None:
    caplog.set_level("INFO", "deft_lightning")
    graphs(lambda step, **options: (forward_fails if step.__name__ == "classify" else Replayed)(step, **options))
    graphed, plain = (model(FactorVAE(hidden=16, layers=2), compiled=compiled) for compiled in (True, False))
    same(train(graphed), train(plain))
    assert graphed._step.__name__ == "graphed"
    assert caplog.messages == [
        "torch.compile failed (RuntimeError: operation not permitted when stream is capturing): training the "
        "objective's own parameters without it."
    ]


@pytest.mark.parametrize(("device", "whole"), [("cpu", False), ("cuda", True), ("mps", None)])
def test_the_device_decides_what_is_compiled(device: str, whole: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole step on CUDA, the loss on a CPU, and nothing on Apple's GPUs."""
    compiled: list[str] = []

    def compiler(function: Any, **options: Any) -> Any:
        compiled.append(function.__name__)
        return function

    class Elsewhere:
        """Has the device and nothing else of a tensor."""

        def __init__(self) -> None:
            self.device = torch.device(device)

    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(compiling.shutil, "which", lambda name: "/usr/bin/g++")
    monkeypatch.setattr(compiling.Path, "is_file", lambda path: True)
    monkeypatch.setattr(compiling, "graphed_or_not", lambda step, *_: compiler(step))
    images, noise = batch(0)
    example: Any = (images, noise, torch.tensor(4.0))
    if device != "cpu":
        example = (Elsewhere(), *example[1:])
    compiling.compiled_step(model(), lambda *arguments: None, example)  # type: ignore[arg-type, return-value]
    assert compiled == {None: [], True: ["step"], False: ["<lambda>"]}[whole]


def test_a_copy_computes_with_its_own_weights() -> None:
    first = model()
    first.compute_loss(*batch(0), torch.tensor(1.0))
    other = copy.deepcopy(first)
    with torch.no_grad():
        for weights in other.parameters():
            weights.zero_()
    losses = [m.compute_loss(*batch(0), torch.tensor(1.0)).total for m in (first, other)]
    assert not torch.equal(*losses)
