"""The script that checks and measures everything on a GPU, rehearsed on the CPU before one is at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """The modules accelerator and accelerator_runs."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import accelerator  # noqa: PLC0415
    import accelerator_runs  # noqa: PLC0415

    yield accelerator, accelerator_runs
    for name in ("accelerator", "accelerator_joined", "accelerator_runs", "accelerator_training"):
        sys.modules.pop(name, None)


@pytest.mark.acceptance  # trains in five processes, and a sweep, for about a minute
def test_every_part_yields_rows_without_wandb(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['wandb'] = None\n")
    out = tmp_path / "measured"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "benchmarks/accelerator.py", "--accelerator", "cpu", "--minutes", "8", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    rows = json.loads((out / "accelerator.json").read_text())
    assert [row for row in rows if "error" in row] == []
    names = {
        part: [row["name"] for row in rows if row["part"] == part] for part in ("single", "processes", "limits", "runs")
    }
    assert names["single"] == ["eager fp32, FactorVAE", "graphs bf16, channels first", "trainer fp32", "compiled fp32"]
    assert names["processes"] == ["CPU: start", "CPU: 1", "CPU: 2"]
    assert names["limits"] == ["2 joined", "one, graphs fp32", "one, whole step a graph fp32"]
    assert names["runs"][-2:] == ["all", "ten paper-length runs, training alone"]
    assert all(row["images_per_second"] > 0 for row in rows if row["part"] == "single")
    outcomes = [row["outcome"] for row in rows if row["part"] == "tests" and "outcome" in row]
    assert len(outcomes) > 5
    assert set(outcomes) == {"passed"}
    (run, *_) = (row for row in rows if row["part"] == "runs")
    assert run["status"] == "finished"
    assert run["scores"]["mig"] >= 0
    assert list((out / "runs").glob("*/figures/*.png"))
    assert not list((out / "runs").glob("**/*.ckpt"))
    assert "extrapolated from 28 of 264,960 steps, fewer than the 20,000" in done.stdout.decode()


def _part(scripts: tuple[Any, Any], out: Path, code: str, seconds: float) -> list[dict[str, Any]]:
    """The rows after a part that runs `code`, which is stopped after so many seconds."""
    (out / "log").mkdir()
    with (out / "log" / "single.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log, start_new_session=True)
    scripts[0].watch(process, out, "single", seconds)
    assert process.poll() is not None
    return scripts[0].collect(out)  # type: ignore[no-any-return]


@pytest.mark.slow  # waits for a time limit
def test_a_part_that_takes_too_long_leaves_the_rows_it_has_written(scripts: tuple[Any, Any], tmp_path: Path) -> None:
    scripts[0].add(tmp_path, "single", "eager fp32", images_per_second=5.0)
    (tmp_path / "processes.jsonl").write_text('{"part": "processes", "name": "half wr')
    begin = time.monotonic()
    rows = _part(scripts, tmp_path, "import time; time.sleep(600)", 1.5)
    assert time.monotonic() - begin < 60
    assert rows == [
        {"part": "single", "name": "eager fp32", "images_per_second": 5.0},
        {"part": "single", "name": "time limit", "error": "stopped after 2 s"},
    ]


@pytest.mark.slow  # starts a process
def test_a_part_that_fails_is_a_row_with_its_last_words(scripts: tuple[Any, Any], tmp_path: Path) -> None:
    (row,) = _part(scripts, tmp_path, "raise ValueError('no such device')", 60)
    assert row == {"part": "single", "name": "process", "error": "exit status 1: ValueError: no such device"}


def test_joined_members_compute_their_own_losses(scripts: tuple[Any, Any]) -> None:
    """And gradients: the joined model has those of every member, stacked."""
    import accelerator_joined  # noqa: PLC0415
    import accelerator_training  # noqa: PLC0415

    models = [accelerator_training.deft(compiled=False) for _ in range(2)]
    with torch.no_grad():
        for weight in models[1].parameters():
            weight.mul_(1.5)
    images, noise, pressure = torch.rand(4, 2, 64, 64), torch.randn(2, 4, 10), torch.tensor(3.0)
    apart = [m.compute_loss(images[:, i : i + 1], noise[i], pressure).total for i, m in enumerate(models)]
    together = accelerator_joined.Joined(models)
    loss = together(images, noise, pressure)
    torch.testing.assert_close(loss, sum(apart), rtol=1e-5, atol=1e-3)
    loss.backward()
    torch.stack(apart).sum().backward()
    ours, theirs = together.encoder_hidden[0].grad, models[1].encoder.groups[2].hidden.weight.grad
    torch.testing.assert_close(ours[6], theirs.T, rtol=1e-4, atol=1e-4)
    theirs = [model.decoder.deconvolutions[1].weight.grad for model in models]
    torch.testing.assert_close(together.decoder[2].grad, torch.cat(theirs), rtol=1e-4, atol=1e-4)


def test_the_runs_fit_into_the_time_left_or_take_twenty_thousand_steps(scripts: tuple[Any, Any]) -> None:
    """In 190 s, of which 90 are not training, 85% of 100 s at 64,000 images/s of each run are 85,000 steps."""
    _, runs = scripts
    assert runs.PAPER_STEPS == 264_960
    assert runs.fitting(190, 64_000) == pytest.approx(85_000 / 264_960)
    assert runs.fitting(190, 100) == pytest.approx(20_000 / 264_960)
    assert runs.fitting(600, 64_000) == 1.0


@pytest.mark.parametrize(
    ("count", "steps", "seconds", "word"),
    [
        (10, 264_960, 339, "measured"),  # 264,960 steps of 64 images at 50,000 images/s of each
        (10, 21_000, 339, "extrapolated from 21,000 of 264,960 steps"),
        (4, 21_000, 1017, "extrapolated from 21,000 of 264,960 steps"),  # three rounds
        (16, 9_000, 339, "extrapolated from 9,000 of 264,960 steps, fewer than the 20,000 that it takes"),
    ],
)
def test_what_ten_runs_take_is_measured_or_called_extrapolated(
    count: int, steps: int, seconds: float, word: str, scripts: tuple[Any, Any], tmp_path: Path
) -> None:
    """Compiling for 30 s before the first measure, at 1,000 steps, does not count."""
    script, runs = scripts
    rate = 50_000 / 64  # steps a second
    content = {"status": "finished", "training": {"batch_size": 64}, "timings": {}, "stages": {}}
    measures = [(1000, 30 + 1000 / rate, content), (steps, 30 + steps / rate, content)]
    options = runs.Options(out=tmp_path, accelerator="cuda")
    runs.tell(options, {f"seed{i}": measures for i in range(count)}, "MPS, bf16", min(1.0, steps / 264_960), 500)
    *each, total, ten = script.collect(tmp_path)
    assert len(each) == count
    assert each[0]["note"].startswith(f"finished, {steps:,} steps, 30 s to start and compile")
    assert total["images_per_second"] == pytest.approx(50_000 * count)
    assert (round(ten["seconds"]), ten["note"]) == (seconds, word)


def test_tf32_is_taken_where_bf16_is_hardly_faster(scripts: tuple[Any, Any], tmp_path: Path) -> None:
    script, runs = scripts
    options = runs.Options(out=tmp_path, accelerator="cuda")
    assert runs.fastest_precision(options) == "bf16"  # where nothing was measured
    for kind, rate in (("bf16", 100.0), ("fp32", 70.0), ("tf32", 97.0)):
        script.add(tmp_path, "single", f"trainer {kind}", images_per_second=rate)
    assert runs.fastest_precision(options) == "tf32"
    script.add(tmp_path, "single", "trainer bf16", images_per_second=110.0)
    assert runs.fastest_precision(options) == "bf16"
