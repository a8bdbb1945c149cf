"""`trainer.precision=auto`: what it comes to, and that a run keeps it."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from deft_lightning import FactorDataModule
from deft_lightning.common import results
from deft_lightning.common.errors import DeftError, Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import build, precision, run
from tests.helpers import BARE, TinySprites, compose_run, plain_trainer, send_signal, tiny_module

AUTO = (*BARE, "trainer.precision=auto")


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch):
    """Makes torch see a machine with the given capabilities of its processor, and of its GPU if it has one."""

    def pretend(*capabilities: str, gpu: tuple[int, int] | None = None, apple: bool = False) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(capabilities, True), raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)

    return pretend


@pytest.mark.parametrize(
    ("capabilities", "machine", "accelerator", "expected"),
    [
        (("avx512_f", "amx_bf16"), {}, "auto", "bf16-mixed"),
        (("avx512_bf16",), {}, "cpu", "bf16-mixed"),
        (("avx2", "avx512_f"), {}, "auto", "32-true"),
        ((), {"gpu": (8, 0)}, "auto", "bf16-mixed"),
        ((), {"gpu": (9, 0)}, "gpu", "bf16-mixed"),
        (("amx_bf16",), {"gpu": (7, 5)}, "auto", "32-true"),
        (("amx_bf16",), {"gpu": (7, 5)}, "cpu", "bf16-mixed"),
        ((), {"apple": True}, "auto", "32-true"),
    ],
)
def test_bf16_where_the_device_has_units_for_it(capabilities, machine, accelerator, expected, processor) -> None:
    processor(*capabilities, **machine)
    assert precision.resolve("auto", accelerator) == expected


def test_what_the_user_sets_or_the_run_began_with_comes_first(processor) -> None:
    processor("amx_bf16")
    assert precision.resolve("32-true") == "32-true"
    assert precision.resolve("32-true", recorded="bf16-mixed") == "32-true"
    assert precision.resolve("auto", recorded="32-true") == "32-true"
    processor()
    assert precision.resolve("auto", recorded="bf16-mixed") == "bf16-mixed"


@pytest.mark.slow  # trains runs
def test_a_run_in_bf16_resumed_on_a_machine_without_equals_an_uninterrupted_one(tmp_path: Path, processor) -> None:
    processor("amx_bf16")
    run.train(*compose_run(tmp_path / "whole", *AUTO))
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        run.train(*compose_run(folder, *AUTO, *send_signal(17, signal.SIGTERM)))
    processor()
    run.train(*compose_run(folder, *AUTO, "resume=true"))
    for place in ("whole", "stopped"):
        outcome = results.read(tmp_path / place)
        assert outcome["precision"] == "bf16-mixed"
        assert outcome["training"]["trainer"] == {}  # so that runs on different machines are of one method
    ours, theirs = (read_checkpoint(tmp_path / place / "checkpoints" / "last.ckpt") for place in ("stopped", "whole"))
    assert all(value.dtype == torch.float32 for value in ours["state_dict"].values())
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    assert results.read(folder)["stages"] == results.read(tmp_path / "whole")["stages"]


class Products(pl.Callback):
    """Keeps how products are taken in each step; stops the fit at the first with the error `end`."""

    def __init__(self, end: type[Exception] | None) -> None:
        self.seen: list[str] = []
        self.end = end

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen.append(torch.get_float32_matmul_precision())
        if self.end is not None:
            raise self.end("stopped")


@pytest.mark.parametrize("end", [None, RuntimeError])
def test_tf32_is_on_during_a_fit_and_off_after_it(end: type[Exception] | None, tmp_path: Path) -> None:
    """Also where the fit fails."""
    watch = Products(end)
    trainer = plain_trainer(tmp_path, watch, max_steps=2, **precision.options("tf32"))
    with pytest.raises(end) if end else nullcontext():
        trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=8))
    assert watch.seen == ["high"] * (1 if end else 2)
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_trainer_of_a_run_knows_tf32_and_keeps_the_plugins_of_the_user(tmp_path: Path) -> None:
    cfg, folder = compose_run(tmp_path, "+trainer.plugins=[{_target_: pytorch_lightning.plugins.TorchCheckpointIO}]")
    trainer = build.trainer(cfg, folder, [], 2, "tf32")
    assert trainer.precision == "tf32"
    assert type(trainer.strategy.checkpoint_io).__name__ == "TorchCheckpointIO"
    assert build.trainer(cfg, folder, [], 2, "32-true").precision == "32-true"


@pytest.mark.parametrize(
    ("gpu", "accelerator", "fits"), [((8, 0), "auto", True), ((8, 0), "cpu", False), (None, "gpu", False)]
)
def test_tf32_is_refused_where_no_device_has_it(gpu, accelerator, fits, processor) -> None:
    processor(gpu=gpu)
    if fits:
        assert precision.resolve("tf32", accelerator) == "tf32"
        return
    with pytest.raises(DeftError, match=r"^trainer\.precision is tf32, which only NVIDIA's GPUs have: use 32-true"):
        precision.resolve("tf32", accelerator)


def test_what_evaluations_cannot_take_and_clipping_that_a_fused_adam_cannot_do_are_refused() -> None:
    for refused in ("64-true", "bf16-true", "16-true", 64):
        with pytest.raises(DeftError, match=rf"^trainer\.precision is {refused}: give one of 32-true, "):
            precision.resolve(refused)
    precision.check_clipping("32-true", 1.0)
    precision.check_clipping("bf16-mixed", None)
    with pytest.raises(DeftError, match=r"^trainer\.gradient_clip_val is 1\.0 under bf16-mixed"):
        precision.check_clipping("bf16-mixed", 1.0)
