"""One run end to end on a tiny data set: what it leaves behind, and what it says when it cannot."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.evaluation.codes import encode
from deft_lightning.metrics import mig
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import build, run
from tests.helpers import compose_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "finished"
    run.train(*compose_run(folder))
    return folder


def test_run_folder_is_complete(finished: Path) -> None:
    for stage in range(1, 5):
        assert (finished / "checkpoints" / f"stage_{stage}.ckpt").is_file()
        for name in (
            f"traversals_stage_{stage}.png",
            f"traversals_stage_{stage}.gif",
            f"reconstructions_stage_{stage}.png",
        ):
            Image.open(finished / "figures" / name).load()
    for name in ("config.yaml", "metrics.csv", "checkpoints/last.ckpt", "figures/nmi_step_0000024.png"):
        assert (finished / name).is_file()


def test_results_say_what_ran_and_how_it_went(finished: Path) -> None:
    known = results.read(finished)
    assert (known["status"], known["steps"], known["boundaries"]) == ("finished", 48, [12, 24, 36, 48])
    assert (known["schema_version"], known["seed"], known["reason"]) == (1, 0, None)
    assert known["data"]["factors"] == ["shape", "scale", "posX", "posY"]
    assert known["data"]["source"] == "rendered"
    assert known["training"]["schedule"]["pressures"] == [160, 105, 30, 1]
    assert known["config_digest"] == results.digest(known["training"])
    assert known["versions"]["torch"] == torch.__version__
    assert known["timings"]["train_seconds"] > 0
    assert [stage["pressure"] for stage in known["stages"].values()] == [160, 105, 30, 1]


def test_scores_are_those_of_the_saved_weights(finished: Path) -> None:
    """The MIG in results.json can be had again from the checkpoint: nothing else went into it."""
    cfg, _ = compose_run(finished)
    module, data = build.rebuild(cfg, finished / "checkpoints" / "stage_2.ckpt")
    table = encode(module, data, data.sample(96))
    assert table.factors is not None
    stage = results.read(finished)["stages"]["stage_2"]
    assert stage["scores"]["mig"] == pytest.approx(mig(table.codes, table.factors).score, abs=1e-6)
    assert stage["scores"]["kl"] == pytest.approx(float(table.kl.sum()), rel=1e-4)


def test_metrics_csv_has_the_documented_columns(finished: Path) -> None:
    with (finished / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = set(rows[0])
    assert {"step", "train/loss", "train/reconstruction", "train/kl", "train/kl/latent_09"} <= columns
    assert {
        "pressure",
        "stage",
        "learning_rate/group_4",
        "score/mig",
        "nmi/max1/posX",
        "nmi/latent_00/scale",
    } <= columns
    losses = {int(row["step"]): float(row["train/loss"]) for row in rows if row["train/loss"]}
    assert sorted(losses) == list(range(3, 48, 4))
    pressures = [float(row["pressure"]) for row in rows if row["pressure"]]
    assert list(dict.fromkeys(pressures)) == [160, 105, 30, 1]
    assert all(row["pressure"] for row in rows if row["train/loss"])  # so that one can be drawn over the other


def test_a_second_run_never_lands_on_the_first(finished: Path) -> None:
    before = (finished / "results.json").read_text()
    with pytest.raises(DeftError, match="already holds a run: add resume=true"):
        run.train(*compose_run(finished))
    with pytest.raises(DeftError, match="is finished: there is nothing to resume"):
        run.train(*compose_run(finished, "resume=true"))
    assert (finished / "results.json").read_text() == before


def test_the_same_seed_gives_the_same_run_and_another_another(finished: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        run.train(*compose_run(tmp_path / str(seed), f"seed={seed}"))
    first, same, other = (
        read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
        for folder in (finished, tmp_path / "0", tmp_path / "1")
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    broken = ("data._target_=tests.helpers.BrokenSprites", "+data.after=15")
    with pytest.raises(DeftError, match=r"the loss is nan at step 16 in stage 2 \(pressure 105\)"):
        run.train(*compose_run(tmp_path / "run", *broken))
    known = results.read(tmp_path / "run")
    assert known["status"] == "failed"
    assert "the loss is nan at step 16 in stage 2" in known["reason"]
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert checkpoint["global_step"] == 12
    assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())


def test_trains_and_logs_without_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = run.loggers.importlib.util.find_spec
    monkeypatch.setattr(
        run.loggers.importlib.util, "find_spec", lambda name, *a: None if name == "wandb" else find_spec(name, *a)
    )
    run.train(*compose_run(tmp_path / "run", "logger=wandb", "schedule.epochs=[0.1,0.1,0.1,0.1]"))
    assert results.read(tmp_path / "run")["status"] == "finished"
    assert not (tmp_path / "run" / "wandb").exists()


def test_results_survive_damage_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"status": "runn')
    with pytest.raises(DeftError, match="cannot be read"):
        results.read(tmp_path)


def test_update_merges_and_keeps_what_is_there(tmp_path: Path) -> None:
    results.update(tmp_path, stages={"stage_1": {"mig": 0.1}}, status="running")
    results.update(tmp_path, stages={"stage_2": {"mig": 0.2}}, status="finished")
    known = json.loads((tmp_path / "results.json").read_text())
    assert known == {
        "schema_version": 1,
        "stages": {"stage_1": {"mig": 0.1}, "stage_2": {"mig": 0.2}},
        "status": "finished",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]  # no temporary file is left
