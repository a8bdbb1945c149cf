"""Whole runs on a GPU: resumed to the bit, in every precision."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import run
from tests.helpers import BARE, compose_run, send_signal


def _overrides(device: torch.device, *more: str) -> tuple[str, ...]:
    compiled = f"compile={str(device.type == 'cuda').lower()}"
    return (*BARE, f"trainer.accelerator={device.type}", compiled, *more)


@pytest.mark.parametrize("objective", ["beta_vae", "factor_vae"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    objective: str, precision: str, device: torch.device, tmp_path: Path
) -> None:
    """With trainer.deterministic=true, on the same device, under the graph."""
    chosen = ("+trainer.deterministic=true", f"trainer.precision={precision}", f"objective={objective}")
    overrides = _overrides(device, *chosen)
    try:
        run.train(*compose_run(tmp_path / "whole", *overrides))
        with pytest.raises(Interrupted):
            run.train(*compose_run(tmp_path / "stopped", *overrides, *send_signal(17, signal.SIGTERM)))
        run.train(*compose_run(tmp_path / "stopped", *overrides, "resume=true"))
    finally:
        torch.use_deterministic_algorithms(False)
    ours, theirs = (
        read_checkpoint(tmp_path / place / "checkpoints" / "last.ckpt")["state_dict"] for place in ("stopped", "whole")
    )
    tensors = {name: value for name, value in ours.items() if isinstance(value, torch.Tensor)}
    different = [name for name, value in tensors.items() if not torch.equal(value, theirs[name])]
    assert different == []
    assert results.read(tmp_path / "stopped")["stages"] == results.read(tmp_path / "whole")["stages"]


def test_a_run_in_tf32_says_so(device: torch.device, tmp_path: Path) -> None:
    if device.type != "cuda":
        pytest.skip("tf32 is refused elsewhere")
    run.train(*compose_run(tmp_path, *_overrides(device, "trainer.precision=tf32")))
    outcome = results.read(tmp_path)
    assert (outcome["status"], outcome["precision"]) == ("finished", "tf32")
    assert outcome["device"] == torch.cuda.get_device_name()
