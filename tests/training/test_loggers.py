"""The numbers and pictures that the loggers keep of a run, read back from their files."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from omegaconf import OmegaConf

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError, Interrupted
from deft_lightning.training import config, loggers, run, wandb_server
from deft_lightning.training.loggers import ResumableCSVLogger
from tests.helpers import compose_run, send_signal
from tests.offline_run import OfflineRun, without_wandb

FACTORS = ("shape", "scale", "posX", "posY")
LATENTS = [f"latent_{j:02d}" for j in range(10)]

# --- metrics.csv ---


def _log(folder: Path, first_step: int, rows: list[tuple[int, dict[str, float]]]) -> None:
    logger = ResumableCSVLogger(folder, first_step)
    for step, numbers in rows:
        logger.log_metrics(numbers, step)
    logger.save()


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


FIRST_SESSION = [
    (0, {"stage": 1.0, "pressure": 70.0}),
    (1, {"train/loss": 5.0}),
    (3, {"train/loss": 4.0}),
    (4, {"score/mig": 0.1}),  # after four steps, when the checkpoint is saved
    (4, {"stage": 2.0, "pressure": 30.0}),
    (4, {"train/loss": 3.9}),  # of the fifth step
    (5, {"train/loss": 3.0}),
    (6, {"nmi/mig": 0.2}),
]


def test_a_resumed_run_keeps_the_rows_of_the_steps_taken_and_no_other(tmp_path: Path) -> None:
    _log(tmp_path, 0, FIRST_SESSION)
    _log(tmp_path, 4, [(4, {"stage": 2.0}), (5, {"train/loss": 2.5, "train/kl": 1.0})])
    assert _rows(tmp_path) == [
        {"step": "0", "stage": "1.0", "pressure": "70.0"},
        {"step": "1", "train/loss": "5.0"},
        {"step": "3", "train/loss": "4.0"},
        {"step": "4", "score/mig": "0.1"},
        {"step": "4", "stage": "2.0"},
        {"step": "5", "train/loss": "2.5", "train/kl": "1.0"},
    ]


def test_the_rows_are_on_disk_again_before_the_first_new_one(tmp_path: Path) -> None:
    _log(tmp_path, 0, FIRST_SESSION)
    _ = ResumableCSVLogger(tmp_path, 5).experiment
    assert [row["step"] for row in _rows(tmp_path)] == ["0", "1", "3", "4", "4", "4"]


def test_a_row_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    _log(tmp_path, 0, [(1, {"score/kl": 2.0, "train/loss": 5.0}), (2, {"score/kl": 1.0, "train/loss": 4.0})])
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text().rstrip()[: -len(",2,4.0")])
    _log(tmp_path, 9, [(9, {"score/kl": 0.5})])
    assert [row["step"] for row in _rows(tmp_path)] == ["1", "9"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00rubbish\n" * 9, b"step,loss\nrubbish,1\n", b"step,loss\ninf,1\n"])
def test_a_damaged_file_is_named_and_stays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(DeftError, match=r"metrics\.csv is damaged: restore it, or move it away"):
        _log(tmp_path, 9, [(9, {"score/kl": 0.5})])
    assert (tmp_path / "metrics.csv").read_bytes() == content


def test_a_run_from_the_start_begins_a_new_file(tmp_path: Path) -> None:
    _log(tmp_path, 0, FIRST_SESSION)
    _log(tmp_path, 0, [(1, {"train/loss": 9.0})])
    assert _rows(tmp_path) == [{"step": "1", "train/loss": "9.0"}]


@pytest.mark.parametrize("resumed", [True, False])
def test_a_full_disk_does_not_take_the_rows_that_were_there(resumed: bool, tmp_path: Path, monkeypatch) -> None:
    _log(tmp_path, 0, FIRST_SESSION)
    before = (tmp_path / "metrics.csv").read_bytes()

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    logger = ResumableCSVLogger(tmp_path, 6)
    if not resumed:
        _ = logger.experiment
        before = (tmp_path / "metrics.csv").read_bytes()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        logger.log_metrics({"a/new/column": 1.0}, 99)  # the header is rewritten
    assert (tmp_path / "metrics.csv").read_bytes() == before


# --- Weights & Biases ---

of_runs = pytest.mark.slow  # two sessions with pictures, each with a W&B process


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[OfflineRun], list[Any]]:
    """A run that was stopped in stage 2 and then resumed: its folder, both sessions, `wandb.run` after each."""
    wandb = pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("run") / "run"
    overrides = (
        "logger=wandb",
        "tags=[one,two]",
        "schedule.epochs=[0.25,0.25,0.25,0.25]",
        "trainer.log_every_n_steps=1",
        "callbacks.traversals.columns=3",
    )
    after = []
    with pytest.MonkeyPatch.context() as patch:
        without_wandb(patch, folder.parent)
        with pytest.raises(Interrupted):
            run.train(*compose_run(folder, *overrides, *send_signal(4, signal.SIGTERM)))
        after.append(wandb.run)
        first = set((folder / "wandb").glob("offline-run-*"))
        run.train(*compose_run(folder, *overrides, "resume=true"))
        after.append(wandb.run)
    (second,) = set((folder / "wandb").glob("offline-run-*")) - first
    return folder, [OfflineRun(path) for path in (*first, second)], after


@of_runs
def test_wandb_is_finished_however_the_run_ends(sessions) -> None:
    _, (stopped, resumed), after = sessions
    assert after == [None, None]
    assert (stopped.exit_code, resumed.exit_code) == (1, 0)  # W&B shows the first as failed


@of_runs
def test_a_resumed_run_is_the_same_wandb_run(sessions) -> None:
    folder, (stopped, resumed), _ = sessions
    assert stopped.run.run_id == resumed.run.run_id == results.read(folder)["run_id"]
    assert resumed.run.resume


@of_runs
def test_wandb_has_every_number_at_its_step(sessions) -> None:
    _, (stopped, resumed), _ = sessions
    for key in ("train/loss", "train/reconstruction", "train/kl", *(f"train/kl/{latent}" for latent in LATENTS)):
        assert list(stopped.column(key)) == [0, 1, 2, 3, 4]
        assert list(resumed.column(key)) == [5, 6, 7, 8, 9, 10, 11]
    nmi = ["nmi/mig"]
    for factor in FACTORS:
        nmi += [f"nmi/max1/{factor}", f"nmi/max2/{factor}", *(f"nmi/{latent}/{factor}" for latent in LATENTS)]
    for key in (*nmi, "score/mig", "score/reconstruction", "score/kl"):
        assert list(stopped.column(key)) == [3]
        assert list(resumed.column(key)) == [6, 9, 12]
    for key in ("active_group", *(f"learning_rate/group_{group}" for group in (1, 2, 3, 4))):
        assert list(stopped.column(key)) == [0, 3]
        assert list(resumed.column(key)) == [5, 6, 9]
    assert stopped.column("stage") == {0: 1, 1: 1, 2: 1, 3: 2, 4: 2}
    assert stopped.column("pressure") == {0: 160, 1: 160, 2: 160, 3: 105, 4: 105}
    assert resumed.column("learning_rate/group_2") == pytest.approx({5: 5e-4, 6: 5e-5, 9: 5e-5})


@of_runs
def test_wandb_and_results_agree_and_the_loss_is_the_sum_of_its_parts(sessions) -> None:
    folder, (stopped, resumed), _ = sessions
    stages = results.read(folder)["stages"].values()
    for name in ("mig", "reconstruction", "kl"):
        logged = {**stopped.column(f"score/{name}"), **resumed.column(f"score/{name}")}
        assert logged == pytest.approx({stage["step"]: stage["scores"][name] for stage in stages})
    pressures = [160] * 3 + [105] * 3 + [30] * 3 + [1] * 3
    for row in stopped.history + resumed.history:
        if "train/loss" in row:
            assert row["train/kl"] == pytest.approx(sum(row[f"train/kl/{latent}"] for latent in LATENTS), rel=1e-4)
            total = row["train/reconstruction"] + pressures[row["trainer/global_step"]] * row["train/kl"]
            assert row["train/loss"] == pytest.approx(total, rel=1e-5)


@of_runs
def test_wandb_has_the_pictures(sessions) -> None:
    _, (stopped, resumed), _ = sessions
    for key in ("nmi/matrix", "traversals", "reconstructions"):
        assert (list(stopped.column(key)), list(resumed.column(key))) == ([3], [6, 9, 12])
        for session in (stopped, resumed):
            for image in session.column(key).values():
                assert image["_type"] == "images/separated"
                (name,) = image["filenames"]
                stored = session.folder / "files" / name
                assert stored.read_bytes().startswith(b"\x89PNG")


@of_runs
def test_wandb_has_the_configuration_the_group_and_the_tags(sessions) -> None:
    folder, both, _ = sessions
    for session in both:
        assert session.run.project == "deft_lightning"
        assert session.run.run_group == "color_dsprites"
        assert sorted(session.run.tags) == ["one", "two"]
        assert session.run.display_name == folder.name
        saved = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        for key in (*config.TRAINING_KEYS, "name", "tags", "metrics"):
            assert session.config[key] == saved[key]
        assert session.config["schedule"]["pressures"] == [160, 105, 30, 1]
        assert "${" not in json.dumps(session.config)  # resolved
        assert set(session.config) >= set(config.TRAINING_KEYS)


@pytest.mark.parametrize(
    ("environment", "netrc", "offline"),
    [
        ({}, "", True),
        ({"WANDB_API_KEY": "0" * 40}, "", False),
        ({"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}, "", True),
        ({"WANDB_API_KEY": ""}, "", True),
        ({"WANDB_MODE": "online"}, "", False),
        ({}, "machine api.wandb.ai login user password " + "0" * 40, False),
        ({}, "machine {default} login user password " + "0" * 40, False),
        ({}, "machine elsewhere.org login user password " + "0" * 40, True),
        ({"WANDB_BASE_URL": "https://elsewhere.org"}, "machine elsewhere.org login user password 0", False),
    ],
)
def test_an_api_key_decides_unless_the_mode_is_given(environment, netrc, offline, tmp_path, monkeypatch) -> None:
    without_wandb(monkeypatch, tmp_path)
    default = urlsplit(pytest.importorskip("wandb").Settings().base_url).netloc
    (tmp_path / ".netrc").write_text(netrc.format(default=default))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # no server is asked
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked a server"))
    assert wandb_server.is_offline() == offline


def test_logger_csv_touches_no_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_server, "is_offline", lambda: pytest.fail("asked for W&B"))
    (only,) = loggers.make_loggers(tmp_path, {"wandb": None}, "name", "id", {}, 0)
    assert isinstance(only, ResumableCSVLogger)


# --- TensorBoard ---


@pytest.mark.slow  # trains a run
def test_tensorboard_has_numbers_and_pictures_of_a_resumed_run_once(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder, chosen = tmp_path / "run", ("logger=tensorboard", "~callbacks.kl_decomposition")
    with pytest.raises(Interrupted):
        run.train(*compose_run(folder, *chosen, *send_signal(29, signal.SIGTERM)))
    run.train(*compose_run(folder, *chosen, "resume=true"))
    events = event_accumulator.EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0}).Reload()
    losses = events.Scalars("train/loss")
    assert [row.step for row in losses] == list(range(3, 48, 4))  # every fourth step, before its update
    in_csv = {int(row["step"]): float(row["train/loss"]) for row in _rows(folder) if "train/loss" in row}
    assert {row.step: row.value for row in losses} == pytest.approx(in_csv)
    assert [row.step for row in events.Images("traversals")] == [12, 24, 36, 48]
    assert [row.value for row in events.Scalars("score/mig")][-1] == pytest.approx(
        results.read(folder)["stages"]["stage_4"]["scores"]["mig"]
    )


def test_tensorboard_that_is_not_installed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeftError, match=r"pip install 'deft-lightning\[tensorboard\]'"):
        loggers.make_loggers(tmp_path, {"wandb": None, "tensorboard": True}, "name", "id", {}, 0)
