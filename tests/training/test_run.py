"""One run end to end on a tiny data set: what it leaves behind, and what it says when it cannot start."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from deft_lightning import DeftError
from deft_lightning.common import memory, results
from deft_lightning.evaluation.codes import encode
from deft_lightning.metrics import mig
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import build, run
from tests.helpers import BARE, TinySprites, compose_run

pytestmark = pytest.mark.slow  # trains runs

SHORT = (*BARE, "schedule.epochs=[0.1,0.1,0.1,0.1]")


def test_what_the_data_have_to_say_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(TinySprites, "notices", ("The images are small.",))
    run.train(*compose_run(tmp_path / "run", *SHORT))
    assert caplog.messages.count("The images are small.") == 1


def test_run_folder_is_complete(finished: Path) -> None:
    for stage in range(1, 5):
        assert (finished / "checkpoints" / f"stage_{stage}.ckpt").is_file()
        for name in (
            f"traversals_stage_{stage}.png",
            f"traversals_stage_{stage}.gif",
            f"reconstructions_stage_{stage}.png",
            f"nmi_step_{12 * stage:07d}.png",
        ):
            Image.open(finished / "figures" / name).load()
    for name in ("nmi.png", "summary.png"):
        Image.open(finished / "figures" / name).load()
    for name in ("config.yaml", "metrics.csv", "checkpoints/last.ckpt"):
        assert (finished / name).is_file()


def test_results_hold_the_settings_and_the_outcome(finished: Path) -> None:
    outcome = results.read(finished)
    assert (outcome["status"], outcome["steps"], outcome["boundaries"]) == ("finished", 48, [12, 24, 36, 48])
    assert (outcome["schema_version"], outcome["seed"], outcome["reason"]) == (2, 0, None)
    assert outcome["data"]["factors"] == ["shape", "scale", "posX", "posY"]
    assert outcome["data"]["source"] == "rendered"
    assert outcome["training"]["schedule"]["pressures"] == [160, 105, 30, 1]
    assert outcome["config_digest"] == results.digest(outcome["training"])
    assert outcome["versions"]["torch"] == torch.__version__
    assert [stage["pressure"] for stage in outcome["stages"].values()] == [160, 105, 30, 1]


def test_results_hold_speed_memory_and_device(finished: Path) -> None:
    outcome = results.read(finished)
    timings = outcome["timings"]
    assert (outcome["precision"], outcome["device"]) == ("32-true", "cpu")
    assert outcome["threads"] == torch.get_num_threads()
    assert outcome["peak_memory_mb"] > 50  # torch alone takes more
    assert timings["train_seconds"] > timings["evaluation_seconds"] > 0
    assert outcome["images_per_second"] == pytest.approx(48 * 8 / timings["train_seconds"], rel=0.1)  # 48 batches of 8
    assert timings["steps_per_second"] == pytest.approx(48 / timings["train_seconds"], rel=0.1)


def test_a_run_keeps_freed_memory_and_takes_the_trainers_other_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(memory, "retain_freed", lambda: asked.append(1))
    run.train(*compose_run(tmp_path / "run", *SHORT, "+trainer.enable_progress_bar=false"))
    assert asked == [1]
    assert results.read(tmp_path / "run")["status"] == "finished"
    printed = capsys.readouterr().out
    assert "Scores at the end of every stage" in printed
    assert "images/s" not in printed
    assert "stage 4/4" not in printed


def test_results_name_every_choice(finished: Path) -> None:
    """Names of files in conf/, of which a module path that later moves is no part."""
    outcome = results.read(finished)
    training = outcome["training"]
    assert training["objective"] == {"name": "beta_vae"}
    assert training["networks"] == {"name": "burgess"}
    assert training["schedule"]["name"] == "piecewise"
    assert training["likelihood"] == {"name": "bernoulli"}
    assert training["optimizer"] == {"name": "adam", "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0}
    assert training["groups"]["latents"] == [3, 3, 2, 2]
    assert training["trainer"] == {"precision": "32-true"}
    assert training["data"]["name"] == "tests.helpers:TinySprites"  # from outside the package
    assert "_target_" not in json.dumps(outcome)
    method = {"objective": "beta-VAE", "groups": 4, "stages": 4, "variants": []}
    assert outcome["method"] == method | {"likelihood": "Bernoulli", "name": None}


def test_the_method_records_variants_and_the_name_of_the_user(tmp_path: Path) -> None:
    variants = ("groups.inactive=frozen", "groups.adam_at_switch=reset", "method=mine")
    outcome = run.train(*compose_run(tmp_path / "run", *SHORT, *variants))
    assert outcome["method"] == {
        "objective": "beta-VAE",
        "groups": 4,
        "stages": 4,
        "variants": ["frozen", "Adam reset"],
        "likelihood": "Bernoulli",
        "name": "mine",
    }


def test_scores_are_those_of_the_saved_weights(finished: Path) -> None:
    """The MIG in results.json can be computed again from the checkpoint."""
    cfg, _ = compose_run(finished)
    module, data = build.trained_module_and_data(cfg, finished / "checkpoints" / "stage_2.ckpt")
    encoding = encode(module, data, data.sample(96))
    assert encoding.factors is not None
    stage = results.read(finished)["stages"]["stage_2"]
    assert stage["scores"]["mig"] == pytest.approx(mig(encoding.codes, encoding.factors).score, abs=1e-6)
    assert stage["scores"]["kl"] == pytest.approx(float(encoding.kl.sum()), rel=1e-4)


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


def test_the_same_seed_gives_the_same_run_and_another_seed_another(finished: Path, tmp_path: Path) -> None:
    """Without pictures and NMI the same weights as with them: looking at a run does not change it."""
    for seed in (0, 1):
        run.train(*compose_run(tmp_path / str(seed), *BARE, f"seed={seed}"))
    first, same, other = (
        read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
        for folder in (finished, tmp_path / "0", tmp_path / "1")
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))
    stages = (results.read(folder)["stages"]["stage_4"] for folder in (finished, tmp_path / "0"))
    scores = [stage["scores"] for stage in stages]
    assert scores[0] == scores[1]


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    broken = ("data._target_=tests.helpers.BrokenSprites", "+data.after=15")
    with pytest.raises(DeftError, match=r"the loss is nan at step 16 in stage 2 \(pressure 105\)"):
        run.train(*compose_run(tmp_path / "run", *BARE, *broken))
    outcome = results.read(tmp_path / "run")
    assert outcome["status"] == "diverged"
    assert "the loss is nan at step 16 in stage 2" in outcome["reason"]
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert checkpoint["global_step"] == 12
    assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())


def test_an_error_that_nobody_foresaw_is_recorded_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(build, "trainer", fail)
    with pytest.raises(ZeroDivisionError):
        run.train(*compose_run(tmp_path / "run", *BARE))
    outcome = results.read(tmp_path / "run")
    assert (outcome["status"], outcome["reason"]) == ("failed", "ZeroDivisionError: by hand")


def test_the_path_of_the_summary_is_printed_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.train(*compose_run(tmp_path / "run", *SHORT))
    printed = re.sub(r"\s+", "", capsys.readouterr().out)
    assert printed.endswith(f"Summary:{tmp_path / 'run' / 'figures' / 'summary.png'}")
    Image.open(tmp_path / "run" / "figures" / "summary.png").load()


def test_trains_and_logs_without_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = run.loggers.importlib.util.find_spec
    monkeypatch.setattr(
        run.loggers.importlib.util, "find_spec", lambda name, *a: None if name == "wandb" else find_spec(name, *a)
    )
    run.train(*compose_run(tmp_path / "run", *SHORT, "logger=wandb"))
    assert results.read(tmp_path / "run")["status"] == "finished"
    assert not (tmp_path / "run" / "wandb").exists()


def test_a_damaged_results_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"status": "runn')
    with pytest.raises(DeftError, match="cannot be read"):
        results.read(tmp_path)


def test_update_merges_and_keeps_what_is_there(tmp_path: Path) -> None:
    results.update(tmp_path, stages={"stage_1": {"mig": 0.1}}, status="running")
    results.update(tmp_path, stages={"stage_2": {"mig": 0.2}}, status="finished")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content == {
        "schema_version": 2,
        "stages": {"stage_1": {"mig": 0.1}, "stage_2": {"mig": 0.2}},
        "status": "finished",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]  # no temporary file is left
