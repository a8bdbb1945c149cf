"""When the measures of a run are written."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from deft_lightning.training.callbacks import RunResults, run_results


def test_measures_are_written_every_few_seconds_and_where_a_stage_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = iter((100.0, 100.0, 104.9, 105.0, 105.0, 106.0, 110.0)), []
    monkeypatch.setattr(run_results.time, "monotonic", lambda: next(clock))
    callback = RunResults()
    callback._measures = SimpleNamespace(write=written.append)
    for step, stage in enumerate([None, None, None, 0, None]):  # at 100, 104.9, 105, 106 and 110 s
        callback.after_step(SimpleNamespace(global_step=step), None, stage)
    assert written == [0, 2, 3]
