"""The device of the tests in this folder: CUDA, or what DEFT_CUDA_TESTS names, to try them where there is none.

DEFT_CUDA_REPORT names a file to which every outcome is appended as it comes, as one line of JSON.
DEFT_CUDA_SHARD=2/8 runs the third of eight parts of them, so that eight processes run all.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator

import pytest
import torch
import torch._inductor.config
from torch._dynamo.utils import counters

# cuBLAS reads it once, before the first product: without it none is allowed in deterministic mode.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def count_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs that Inductor has skipped in an earlier test do not count in this one, and none is cut in pieces."""
    counters.clear()
    if hasattr(torch._inductor.config, "graph_partition"):
        monkeypatch.setattr(torch._inductor.config, "graph_partition", False)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device under test; skips where it is not here."""
    device = torch.device(os.environ.get("DEFT_CUDA_TESTS", "cuda"))
    if device.type == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs an NVIDIA GPU")
        device = torch.device("cuda", 0)
    return device


@pytest.fixture(autouse=True)
def single_precision() -> Iterator[None]:
    """Convolutions in single precision, not in tf32 as they are by default, so that the CPU can be compared with."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are marked `cuda`, and slow: they compile and train."""
    for item in items:
        if "tests/cuda" in str(item.path):
            item.add_marker(pytest.mark.cuda)
            item.add_marker(pytest.mark.slow)
    if "DEFT_CUDA_SHARD" in os.environ:
        shard, count = map(int, os.environ["DEFT_CUDA_SHARD"].split("/"))
        random.Random(0).shuffle(items)  # in their order every second one compiles a graph
        items[:] = items[shard::count]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Append the outcome of a test, where a file is named for it."""
    if "DEFT_CUDA_REPORT" not in os.environ or (report.when != "call" and report.passed):
        return
    row = {"part": "tests", "name": report.nodeid.removeprefix("tests/cuda/"), "outcome": report.outcome}
    row["seconds"] = round(report.duration, 1)
    if report.failed:
        row["error"] = getattr(getattr(report.longrepr, "reprcrash", None), "message", str(report.longrepr))[:500]
    with open(os.environ["DEFT_CUDA_REPORT"], "a") as file:
        file.write(json.dumps(row) + "\n")
