"""Which GPUs a sweep has, how many jobs fit on them, and how they are dealt, with a stand-in for nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest
from joblib import cpu_count
from omegaconf import DictConfig, OmegaConf

from deft_lightning.common.errors import DeftError
from deft_lightning.launch import devices, processes
from deft_lightning.launch.devices import Dealer, Gpu
from tests.helpers import compose_run
from tests.launch.stand_ins import Machine, machine

__all__ = ["machine"]

A, B, C = Gpu("GPU-aaa1", 80000), Gpu("GPU-aab2", 40000), Gpu("GPU-ccc3", None)


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [
        (None, [A, B, C]),
        ("1", [B]),
        ("2, 0", [C, A]),
        ("GPU-ccc", [C]),
        ("GPU-aab2,0", [B, A]),
        ("GPU-aa", []),  # two begin like that
        ("", []),
        ("-1", []),
        ("0,7,1", [A]),  # CUDA stops at the first that is not there
        ("MIG-5c89852c", [Gpu("MIG-5c89852c", None)]),
    ],
)
def test_gpus_are_those_that_the_user_leaves_visible(
    chosen: str | None, seen: list[Gpu], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.gpus()
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert devices.visible() == seen


def test_without_a_working_nvidia_smi_there_is_no_gpu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.visible() == []
    monkeypatch.setenv("PATH", str(machine.tools / "nothing"))
    assert devices.visible() == []


def test_only_trainers_that_would_use_cuda_have_gpus() -> None:
    def composed(*overrides: str) -> DictConfig:
        return compose_run(Path(), *overrides, base=())[0]

    used = {name: devices.uses_cuda(composed(f"trainer={name}")) for name in ("auto", "cpu", "gpu", "ddp")}
    assert used == {"auto": True, "cpu": False, "gpu": True, "ddp": True}
    assert devices.needed(composed("trainer=ddp", "trainer.devices=3")) == 3
    assert devices.needed(composed("trainer=gpu", "trainer.devices=auto")) is None
    assert not devices.uses_cuda(OmegaConf.create({"name": "no trainer"}))


def test_room_is_free_memory_through_that_of_a_job() -> None:
    assert devices.rooms([A, B, C], 4) == {A.name: 19, B.name: 9, C.name: 1}
    assert devices.rooms([A], 0.5) == {A.name: devices.MPS_CLIENTS}
    assert devices.rooms([A], 100) == {A.name: 0}


def test_auto_is_bounded_by_cores_memory_and_jobs() -> None:
    cores = cpu_count()
    assert processes._at_once("auto", 1000) == cores
    assert processes._at_once("auto", 1000, room=1) == 1
    assert processes._at_once("auto", 1000, room=10 * cores) == cores
    assert processes._at_once("auto", 1, room=10) == 1
    assert processes._at_once("auto", 1000, room=0) == 1  # every GPU is full: what is there is tried
    assert processes._at_once(-1, 1000, room=1) == cores
    with pytest.raises(DeftError, match=r"hydra.launcher.n_jobs is 'all': give a whole number from 1 up."):
        processes._at_once("all", 2)


def test_each_job_gets_the_gpu_with_the_fewest_jobs() -> None:
    dealer = Dealer(["a", "b", "c"])
    assert [dealer.take(1) for _ in range(5)] == [["a"], ["b"], ["c"], ["a"], ["b"]]
    dealer.give_back(["b"])
    dealer.give_back(["b"])
    assert [dealer.take(1) for _ in range(3)] == [["b"], ["b"], ["c"]]


def test_a_full_gpu_gets_no_job_while_another_has_room() -> None:
    dealer = Dealer(["small", "large"], {"small": 1, "large": 3})
    assert [dealer.take(1) for _ in range(5)] == [["small"], ["large"], ["large"], ["large"], ["small"]]


def test_a_run_on_several_gpus_gets_as_many() -> None:
    dealer = Dealer(["a", "b", "c"])
    assert dealer.take(1) == ["a"]
    assert dealer.take(2) == ["b", "c"]
    assert dealer.take(None) == ["a", "b", "c"]
    assert Dealer([]).take(2) == []
