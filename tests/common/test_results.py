"""results.json: what it says of a run that has ended, how fields are merged, and a damaged file."""

from __future__ import annotations

from pathlib import Path

import pytest

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError, Diverged, Incomplete, Interrupted
from deft_lightning.common.results import Status

CONTINUES = ": resume=true continues from the last checkpoint, if there is one."


def test_only_finished_and_diverged_runs_are_not_resumed() -> None:
    assert {status for status in Status if status.final} == {Status.FINISHED, Status.DIVERGED}


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Interrupted("stopped by SIGTERM at step 5.", 15), "interrupted", "stopped by SIGTERM at step 5."),
        (Incomplete("ended after 5 of 9 steps."), "interrupted", "ended after 5 of 9 steps."),
        (KeyboardInterrupt(), "interrupted", f"interrupted by Ctrl-C{CONTINUES}"),
        (KeyboardInterrupt("stopped"), "interrupted", f"stopped{CONTINUES}"),
        (SystemExit(1), "interrupted", "SystemExit: 1"),
        (Diverged("the loss is nan at step 5."), "diverged", "the loss is nan at step 5."),
        (DeftError("lr is -1: give a number above 0."), "failed", "lr is -1: give a number above 0."),
        (MemoryError("of 3 GiB"), "failed", "MemoryError: of 3 GiB"),
        (ZeroDivisionError(), "failed", "ZeroDivisionError"),
        ("its process was killed.", "failed", "its process was killed."),
    ],
)
def test_why_a_run_ended(tmp_path: Path, error: BaseException | str, status: str, reason: str) -> None:
    results.update(tmp_path, status=Status.RUNNING, timings={"train_seconds": 3})
    results.record_end(tmp_path, error, steps=5, timings={"evaluation_seconds": 1})
    assert results.read(tmp_path) == {
        "schema_version": results.SCHEMA_VERSION,
        "status": status,
        "reason": reason,
        "steps": 5,
        "timings": {"train_seconds": 3, "evaluation_seconds": 1},
    }
    assert results.status(tmp_path) is Status(status)


def test_mappings_are_merged_to_any_depth_and_everything_else_is_replaced(tmp_path: Path) -> None:
    results.update(tmp_path, stages={"stage_1": {"step": 3, "scores": {"mig": 0.1}}}, boundaries=[3, 9], data=None)
    results.update(tmp_path, stages={"stage_1": {"scores": {"sap": 0.2}}, "stage_2": {"step": 8}}, boundaries=[3, 8])
    results.update(tmp_path, data={"name": "dsprites"})
    assert results.read(tmp_path) == {
        "schema_version": results.SCHEMA_VERSION,
        "stages": {"stage_1": {"step": 3, "scores": {"mig": 0.1, "sap": 0.2}}, "stage_2": {"step": 8}},
        "boundaries": [3, 8],
        "data": {"name": "dsprites"},
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"status": ', "cannot be read"),
        pytest.param("[" * 99_999, "cannot be read", id="too deep"),
        ("[]", "does not hold the results"),
    ],
)
def test_a_damaged_file_is_one_sentence_and_is_not_overwritten(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / results.FILE
    path.write_text(content)
    for use in (results.read, results.update):
        with pytest.raises(DeftError, match=sentence) as caught:
            use(tmp_path)
        assert str(caught.value).startswith(str(path))
    assert path.read_text() == content
    assert results.status(tmp_path) is None


def test_a_folder_without_a_run_has_no_results_and_no_status(tmp_path: Path) -> None:
    assert results.read(tmp_path) == {}
    assert results.status(tmp_path) is None
    results.update(tmp_path, status="unheard of")
    assert results.status(tmp_path) is None


def test_equal_settings_have_one_digest_whatever_their_order() -> None:
    assert results.digest({"lr": 1e-4, "seed": 0}) == results.digest({"seed": 0, "lr": 1e-4})
    assert results.digest({"lr": 1e-4, "seed": 0}) != results.digest({"lr": 1e-4, "seed": 1})
