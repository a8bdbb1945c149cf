"""Which files are found and read; a file that cannot be used becomes one sentence."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from deft_lightning.common.errors import DeftError
from deft_lightning.report.loading import Record, load, numbers
from tests.report import factory


def test_runs_are_found_at_any_depth_and_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = factory.write(tmp_path / "sweep" / "a" / "b" / "0_run", factory.result(seed=1))
    factory.write(tmp_path / "sweep" / "1_run", factory.result(seed=2))
    factory.write(deep / "wandb" / "copy", factory.result(seed=3))  # inside a run: not a run
    monkeypatch.chdir(tmp_path)
    records = load(["sweep", tmp_path / "sweep", deep / "results.json", "sw*/*_run"])
    assert sorted(run.seed or 0 for run in records.runs) == [1, 2]
    assert records.problems == []


def test_files_beside_the_runs_of_a_sweep_are_skipped(tmp_path: Path) -> None:
    """As the shell expands multirun_outputs/<sweep>/*."""
    factory.write(tmp_path / "0_run", factory.result(seed=1))
    (tmp_path / "multirun.yaml").write_text("name: small\n")
    records = load(sorted(tmp_path.iterdir()))
    assert ([run.seed for run in records.runs], records.problems) == ([1], [])


@pytest.mark.parametrize("path", ["nothing", "nothing/*", ".", "notes.txt"])
def test_nothing_found_is_one_sentence(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no results")
    with pytest.raises(DeftError, match="give the folder of a sweep") as error:
        load([path])
    assert path in str(error.value)


def test_one_path_of_several_that_leads_nowhere_is_reported(tmp_path: Path) -> None:
    factory.write(tmp_path / "sweep", factory.result())
    records = load([tmp_path / "sweep", tmp_path / "swep"])
    assert len(records.runs) == 1
    assert [str(tmp_path / "swep") in problem for problem in records.problems] == [True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"status": "finished", "stages": {"sta', "cannot be read"),
        ("", "cannot be read"),
        ("[1, 2]", "does not hold the results of a run"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": "one"}', "schema version 'one'"),
    ],
)
def test_a_damaged_file_is_reported_and_skipped(
    tmp_path: Path, text: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    factory.write(tmp_path / "good", factory.result())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "results.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        records = load([tmp_path])
    assert [run.folder.name for run in records.runs] == ["good"]
    (problem,) = records.problems
    assert words in problem
    assert str(tmp_path / "bad") in problem
    assert problem in caplog.text


def test_files_of_the_schema_before_the_first_release_are_left_out_with_one_sentence(tmp_path: Path) -> None:
    for seed in range(3):
        factory.write(tmp_path / f"old_{seed}", factory.result(seed=seed) | {"schema_version": 1})
    factory.write(tmp_path / "new", factory.result())
    records = load([tmp_path])
    assert [run.folder.name for run in records.runs] == ["new"]
    (problem,) = records.problems
    assert "before the first release are left out (3 of 4)" in problem
    assert "old_0" in problem


@pytest.mark.parametrize("method", ["DEFT", "beta-VAE, piecewise", "beta-VAE, 2 groups", "DIP-VAE-I", "mine"])
def test_the_label_of_a_method_is_made_from_its_choices(tmp_path: Path, method: str) -> None:
    content = factory.result(method)
    run = Record(tmp_path, content)
    assert run.method.label == method
    assert run.method.is_ablation == ("," in method)
    content["method"]["name"] = "Ours, 2 groups"  # chosen by the user: not an ablation
    renamed = Record(tmp_path, content).method
    assert (renamed.label, renamed.is_ablation) == ("Ours, 2 groups", False)


def test_a_file_that_is_no_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(b"\xff\xfe\x00\x81")
    assert len(load([tmp_path]).problems) == 1


def test_unfinished_and_damaged_thresholds_are_reported(tmp_path: Path) -> None:
    factory.write(tmp_path / "a", factory.anneal() | {"finished": False}, name="thresholds.json")
    factory.write(tmp_path / "b", factory.anneal(), name="thresholds.json")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thresholds.json").write_text("{")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thresholds.json").write_text("3")
    records = load([tmp_path])
    assert [record.folder.name for record in records.thresholds] == ["b"]
    unfinished, cut, foreign = records.problems
    assert "not finished" in unfinished
    assert "cannot be read" in cut
    assert "not a record" in foreign


def test_final_scores_are_those_of_the_last_stage(tmp_path: Path) -> None:
    stages = {f"stage_{n}": {"scores": {"mig": n / 100}} for n in (2, 10, 1)}
    run = Record(tmp_path, factory.result(stages=stages))
    assert [stage["scores"]["mig"] for stage in run.stages] == [0.01, 0.02, 0.1]
    assert run.scores == {"mig": 0.1}


def test_only_finite_numbers_are_scores() -> None:
    text = '{"a": 0.5, "b": NaN, "c": Infinity, "d": null, "e": "0.5", "f": true, "g": [1], "h": 2}'
    assert numbers(json.loads(text)) == {"a": 0.5, "h": 2.0}
    assert numbers(None) == numbers([1]) == {}


@pytest.mark.parametrize("junk", [None, 3, "x", [], [1], {}, {"a": 1}])
def test_what_is_of_the_wrong_kind_reads_as_absent(tmp_path: Path, junk: object) -> None:
    keys = ("status", "method", "name", "seed", "training", "data", "stages", "history", "versions")
    run = Record(tmp_path, dict.fromkeys(keys, junk))
    assert isinstance(run.status, str)
    assert isinstance(run.method.label, str)
    assert isinstance(run.scale, str)
    assert isinstance(run.source, str)
    assert run.seed in (None, 3)
    assert run.scores == {}
    assert run.history("nmi") == []


def test_runs_with_images_held_out_are_of_another_source(tmp_path: Path) -> None:
    whole = factory.result()
    part = factory.result(training=whole["training"] | {"data": {"name": "dsprites", "held_out": 0.1}})
    sources = [Record(tmp_path, content).source for content in (whole, part)]
    assert sources == ["rendered", "rendered, 10% held out"]
