"""`trainer.precision=auto`: what it comes to, and that a run keeps it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import precision, run
from tests.helpers import BARE, compose_run, send_signal

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
