"""A run that was stopped, killed or ended early is resumed, and ends as if nothing had happened."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from deft_lightning import DeftError, __main__
from deft_lightning.common import results
from deft_lightning.common.errors import Diverged, Incomplete, Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.report.loading import Record
from deft_lightning.training import build, run, run_folder
from tests.conftest import MakeOnce
from tests.helpers import BARE, PLAIN, TINY, compose_run, send_signal, slowly
from tests.training.conftest import Copy

pytestmark = pytest.mark.slow  # together: some 40 short trainings

REPOSITORY = Path(__file__).parents[2]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _last(folder: Path) -> dict:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")


def _assert_equal_to_the_bit(resumed: Path, whole: Path, steps: int = 48) -> None:
    ours, theirs = _last(resumed), _last(whole)
    assert ours["global_step"] == theirs["global_step"] == steps
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    for index, state in theirs["optimizer_states"][0]["state"].items():
        for key, value in state.items():
            assert torch.equal(ours["optimizer_states"][0]["state"][index][key], value), (index, key)
    resumed_results, whole_results = results.read(resumed), results.read(whole)
    assert resumed_results["stages"] == whole_results["stages"]
    assert (resumed_results["status"], resumed_results["steps"]) == ("finished", steps)


# --- Stopped by a signal ---


def _losses(folder: Path) -> list[str]:
    """The step and the loss of every row of metrics.csv that has a loss."""
    lines = (folder / "metrics.csv").read_text().splitlines()
    step, loss = (lines[0].split(",").index(name) for name in ("step", "train/loss"))
    rows = [line.split(",") for line in lines[1:]]
    return [f"{row[step]} {row[loss]}" for row in rows if row[loss]]


def test_stopped_and_resumed_equals_uninterrupted(stopped: Path, uninterrupted: Path, copy: Copy) -> None:
    interrupted = results.read(stopped)
    assert (interrupted["status"], interrupted["steps"]) == ("interrupted", 18)
    assert interrupted["reason"] == "the run was stopped by SIGTERM at step 18: resume=true continues from there."
    assert _last(stopped)["global_step"] == 18
    folder = copy(stopped)
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    _assert_equal_to_the_bit(folder, uninterrupted)
    outcome = results.read(folder)
    assert outcome["run_id"] == interrupted["run_id"]
    assert outcome["timings"]["train_steps"] == 48  # both sessions
    assert outcome["timings"]["train_seconds"] > interrupted["timings"]["train_seconds"]
    assert outcome["peak_memory_mb"] >= interrupted["peak_memory_mb"]
    assert _losses(folder) == _losses(uninterrupted)  # metrics.csv has every row once


@pytest.mark.parametrize(
    ("step", "number"),
    [
        (17, signal.SIGINT),
        (17, signal.SIGHUP),  # a closed terminal
        (23, signal.SIGTERM),  # the last step of an epoch and of a stage
        (24, signal.SIGTERM),  # the first step of the next
    ],
)
def test_every_signal_at_every_place_stops_after_the_step(
    step: int, number: signal.Signals, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)  # nohup ignores it
    handlers = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(Interrupted, match=f"stopped by {number.name} at step {step + 1}: resume=true"):
        run.train(*compose_run(folder, *PLAIN, *send_signal(step, number)))
    assert [signal.getsignal(one) for one in SIGNALS] == handlers
    outcome = results.read(folder)
    assert (outcome["status"], outcome["steps"], _last(folder)["global_step"]) == ("interrupted", step + 1, step + 1)
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    _assert_equal_to_the_bit(folder, uninterrupted)


def test_a_hang_up_that_is_ignored_as_under_nohup_stops_nothing(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run.train(*compose_run(tmp_path / "run", *BARE, *send_signal(17, signal.SIGHUP)))
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    outcome = results.read(tmp_path / "run")
    assert (outcome["status"], outcome["steps"]) == ("finished", 48)


def test_a_killed_run_resumes_from_its_last_checkpoint(uninterrupted: Path, tmp_path: Path) -> None:
    """SIGKILL leaves no time to save: the run resumes from the checkpoint of every 5 steps, and ends the same."""
    folder = tmp_path / "run"
    overrides = [*PLAIN, *send_signal(17, signal.SIGKILL), "callbacks.checkpoints.every_n_steps=5"]
    code = (
        "from pathlib import Path; from deft_lightning.training import run; from tests.helpers import compose_run; "
        f"run.train(*compose_run(Path({str(folder)!r}), *{overrides!r}))"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    outcome = results.read(folder)
    assert outcome["status"] == "running"  # there was no time to write anything else
    assert (outcome["steps"], outcome["timings"]["train_steps"]) == (12, 12)  # as measured at the end of stage 1
    assert _last(folder)["global_step"] == 15
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    _assert_equal_to_the_bit(folder, uninterrupted)


def test_a_run_killed_after_its_last_step_is_finished_by_resuming_it(uninterrupted: Path, copy: Copy) -> None:
    """Its last checkpoint is saved, but results.json says that it is running."""
    folder = copy(uninterrupted)
    seconds = results.read(folder)["timings"]["train_seconds"]
    results.update(folder, status="running")
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    _assert_equal_to_the_bit(folder, uninterrupted)
    assert seconds <= results.read(folder)["timings"]["train_seconds"] < seconds + 60
    assert (folder / "metrics.csv").read_text() == (uninterrupted / "metrics.csv").read_text()


# --- Ended early by the trainer ---


EARLY_ENDS = {
    "should_stop": ("+callbacks.stop._target_=tests.helpers.StopAfter", "+callbacks.stop.steps=17"),
    "max_time": (
        "+trainer.max_time=00:00:00:01",
        "+callbacks.pause._target_=tests.helpers.Pause",
        "+callbacks.pause.seconds=0.15",  # 48 steps take at least 7 seconds
    ),
    "fast_dev_run": ("+trainer.fast_dev_run=true",),
}
STEPS = {"should_stop": [17], "max_time": list(range(1, 48)), "fast_dev_run": [1]}
"""The steps at which these runs may end."""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`python -m deft_lightning`, called in this process and a folder of its own; returns the error that ends it."""
    monkeypatch.chdir(tmp_path)

    def call(*overrides: str) -> str:
        monkeypatch.setattr(sys, "argv", ["deft_lightning", *TINY, *BARE, "hydra.run.dir=run", *overrides])
        OmegaConf.clear_cache(OmegaConf.create())
        with pytest.raises(SystemExit) as end:
            __main__.main()
        assert end.value.code == 1
        return capsys.readouterr().err.splitlines()[-1]

    return call


@pytest.mark.parametrize("limit", ["should_stop", *slowly("max_time", "fast_dev_run")])
def test_a_run_that_ends_before_its_last_step_is_interrupted_and_resumable(
    limit: str, command: Callable[..., str], make_once: MakeOnce, tmp_path: Path
) -> None:
    bare = make_once("bare", lambda folder: run.train(*compose_run(folder, *BARE)))
    folder = tmp_path / "run"
    sentence = command(*EARLY_ENDS[limit])
    assert re.fullmatch(r"error: the trainer stopped at step \d+ of 48, .*\.", sentence)
    outcome = results.read(folder)
    assert outcome["status"] == "interrupted"
    assert outcome["reason"] == sentence.removeprefix("error: ")
    assert f"at step {outcome['steps']} of 48" in outcome["reason"]
    assert outcome["steps"] in STEPS[limit]
    assert _last(folder)["global_step"] == outcome["steps"]
    run.train(*compose_run(folder, *BARE, "resume=true"))
    _assert_equal_to_the_bit(folder, bare)


def test_a_run_stopped_by_a_limit_says_so_in_python_too(tmp_path: Path) -> None:
    stop = ("+callbacks.stop._target_=tests.helpers.StopAfter", "+callbacks.stop.steps=5")
    with pytest.raises(Incomplete, match="the trainer stopped at step 5 of 48") as caught:
        run.train(*compose_run(tmp_path / "run", *BARE, *stop))
    assert not isinstance(caught.value, Interrupted)  # no signal was sent


# --- What cannot be resumed ---


def test_a_run_that_diverged_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not resumed where it is named, and resume=true takes the earlier, interrupted run instead."""
    monkeypatch.chdir(tmp_path)
    interrupted, diverged = (Path("outputs/tiny") / f"2020-01-0{day}_00-00-00_seed0" for day in (1, 2))
    with pytest.raises(Diverged, match="the loss is nan at step 16"):
        run.train(*compose_run(diverged, *BARE, "data._target_=tests.helpers.BrokenSprites", "+data.after=15"))
    assert results.read(diverged)["status"] == "diverged"
    before = (diverged / "results.json").read_text()
    with pytest.raises(DeftError, match=r"^the run in .*seed0 has diverged, and would again: [^.]*\.$"):
        run.train(
            *compose_run(diverged, *BARE, "data._target_=tests.helpers.BrokenSprites", "+data.after=15", "resume=true")
        )
    assert (diverged / "results.json").read_text() == before
    assert Path(run_folder.choose("tiny", 0, True)).name == run_folder.NOTHING_TO_RESUME
    results.update(interrupted, status="interrupted")
    assert Path(run_folder.choose("tiny", 0, True)) == interrupted


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("seed=1",), r"other settings \(seed: 0 -> 1\)"),
        (("groups.gamma=0.5", "lr=0.001"), r"groups.gamma: 0.1 -> 0.5; lr: 0.0005 -> 0.001"),
        (("schedule.pressures=[160,105,30,2]",), r"schedule.pressures: \[160, 105, 30, 1\] -> \[160, 105, 30, 2\]"),
        (("trainer.precision=bf16-mixed",), r"trainer.precision: 32-true -> bf16-mixed"),
        (("objective=dip_vae_ii",), r"objective.name: beta_vae -> dip_vae_ii"),
        (("likelihood=gaussian",), r"likelihood.name: bernoulli -> gaussian; likelihood.sigma: None -> 0.1"),
        (("optimizer.eps=1e-6",), r"optimizer.eps: 1e-08 -> 1e-06"),
    ],
)
def test_resume_with_other_settings_says_what_differs(changes, sentence: str, stopped: Path, copy: Copy) -> None:
    folder = copy(stopped)
    with pytest.raises(DeftError, match=sentence):
        run.train(*compose_run(folder, *PLAIN, "resume=true", *changes))
    for name in ("checkpoints/last.ckpt", "results.json", "config.yaml"):
        assert (folder / name).read_bytes() == (stopped / name).read_bytes()


def test_resume_on_other_pixels_is_refused(stopped: Path, copy: Copy) -> None:
    """source=auto may use a file that was not there when the run began: the two must not be mixed."""
    folder = copy(stopped)
    results.update(folder, data={"source": "painted"})
    with pytest.raises(DeftError, match="began on images whose source is painted, and now it is rendered"):
        run.train(*compose_run(folder, *PLAIN, "resume=true"))


def test_damaged_and_foreign_checkpoints_are_one_sentence(stopped: Path, copy: Copy) -> None:
    folder = copy(stopped)
    last = folder / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    last.write_bytes(content[: len(content) // 2])
    with pytest.raises(DeftError, match=r"last.ckpt is damaged or not a checkpoint .* take another"):
        run.train(*compose_run(folder, *PLAIN, "resume=true"))
    torch.save({"state_dict": {}}, last)
    with pytest.raises(DeftError, match="was not written by deft_lightning"):
        run.train(*compose_run(folder, *PLAIN, "resume=true"))
    shutil.copy(folder / "checkpoints" / "stage_1.ckpt", last)  # what the sentence says to do
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    assert results.read(folder)["status"] == "finished"


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(DeftError, match="holds no run to resume"):
        run.train(*compose_run(tmp_path / "empty", "resume=true"))


# --- What else is resumed ---


def test_what_the_objective_learns_is_resumed_too(tmp_path: Path) -> None:
    """FactorVAE's discriminator and its Adam state are in the checkpoint: weights equal to the bit."""
    factor_vae = (
        *BARE,
        "objective=factor_vae",
        "objective.hidden=32",
        "objective.layers=2",
        "schedule.epochs=[0.5,0.5,0.5,0.5]",
    )
    run.train(*compose_run(tmp_path / "whole", *factor_vae))
    with pytest.raises(Interrupted):
        run.train(*compose_run(tmp_path / "run", *factor_vae, *send_signal(9, signal.SIGTERM)))
    run.train(*compose_run(tmp_path / "run", *factor_vae, "resume=true"))
    ours, theirs = _last(tmp_path / "run")["state_dict"], _last(tmp_path / "whole")["state_dict"]
    discriminator = [name for name in theirs if name.startswith("objective.discriminator")]
    assert discriminator
    extra = "objective._extra_state"
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if name != extra)
    for index, moments in theirs[extra].items():
        assert all(torch.equal(ours[extra][index][key], value) for key, value in moments.items())


def test_the_running_sigma_and_adamw_are_resumed_too(tmp_path: Path) -> None:
    """Stopped in the second stage of `gaussian_learnt`: weights, moments, running error and scores equal to the bit."""
    parts = (*BARE, "likelihood=gaussian_learnt", "optimizer=adamw", "schedule.epochs=[0.5,0.5,0.5,0.5]")
    run.train(*compose_run(tmp_path / "whole", *parts))
    with pytest.raises(Interrupted):
        run.train(*compose_run(tmp_path / "run", *parts, *send_signal(9, signal.SIGTERM)))
    run.train(*compose_run(tmp_path / "run", *parts, "resume=true"))
    _assert_equal_to_the_bit(tmp_path / "run", tmp_path / "whole", steps=24)
    state = _last(tmp_path / "run")["state_dict"]
    assert float(state["likelihood.steps"]) == 24  # one update a step, in each session
    assert 0 < float(state["likelihood.squared_error"]) < 0.3


def test_a_run_of_an_earlier_version_is_resumed_as_what_it_was(stopped: Path, uninterrupted: Path, copy: Copy) -> None:
    """Neither its configuration, nor its results, nor its checkpoint name a likelihood and the fields of Adam."""
    folder = copy(stopped)
    content = json.loads((folder / "results.json").read_text())
    content["training"] |= {"likelihood": {"name": "bernoulli"}, "optimizer": {"name": "adam"}}
    (folder / "results.json").write_text(json.dumps(content))
    cfg = OmegaConf.load(folder / "config.yaml")
    del cfg["likelihood"], cfg["optimizer"]  # type: ignore[attr-defined]
    OmegaConf.save(cfg, folder / "config.yaml")
    assert run_folder.read_config(folder).likelihood._target_ == "deft_lightning.Bernoulli"
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    _assert_equal_to_the_bit(folder, uninterrupted)


@pytest.mark.parametrize("step", [11, *slowly(12)])  # stopped at the boundary of two stages, and one step after it
@pytest.mark.parametrize("variant", ["inactive=prior", "adam_at_switch=reset", "inactive=frozen"])
def test_variants_of_the_groups_are_resumed_as_well(
    variant: str, step: int, make_once: MakeOnce, tmp_path: Path
) -> None:
    overrides = (*BARE, f"groups.{variant}", "schedule.epochs=[0.5,0.5,0.5,0.5]")  # stages of 6 steps
    whole = make_once(f"whole_{variant}", lambda folder: run.train(*compose_run(folder, *overrides)))
    with pytest.raises(Interrupted):
        run.train(*compose_run(tmp_path / "run", *overrides, *send_signal(step, signal.SIGTERM)))
    run.train(*compose_run(tmp_path / "run", *overrides, "resume=true"))
    _assert_equal_to_the_bit(tmp_path / "run", whole, steps=24)


class _TwoInterrupts(pl.Callback):
    """Ctrl-C twice in one step."""

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == 18:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)


def test_a_second_ctrl_c_stops_at_once_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning exits without a reason."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    made = build.trainer
    monkeypatch.setattr(build, "trainer", lambda *a, **k: _with(made(*a, **k), _TwoInterrupts()))
    with pytest.raises(
        KeyboardInterrupt, match="the run was stopped at once by SIGINT, after it was stopped by SIGINT"
    ):
        run.train(*compose_run(tmp_path / "run", *BARE))
    outcome = results.read(tmp_path / "run")
    assert outcome["status"] == "interrupted"
    assert outcome["reason"].startswith(
        "the run was stopped at once by SIGINT, after it was stopped by SIGINT: resume=true"
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _with(trainer: pl.Trainer, callback: pl.Callback) -> pl.Trainer:
    trainer.callbacks.insert(0, callback)  # type: ignore[attr-defined]
    return trainer


def test_every_session_is_recorded_and_the_first_stays(
    stopped: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With what the run began counts: a run that was finished by another commit names both, and warns."""
    first, folder = results.read(stopped), copy(stopped)
    monkeypatch.setattr(results, "git_commit", lambda: "c" * 40)
    monkeypatch.setattr(sys, "argv", ["deft_lightning", "resume=true"])
    run.train(*compose_run(folder, *PLAIN, "resume=true"))
    outcome = results.read(folder)
    for key in ("started", "command", "git_commit", "versions"):
        assert outcome[key] == first[key] == outcome["sessions"][0][key]
    assert outcome["sessions"][1]["command"].endswith(" resume=true")
    assert Record(folder, outcome).commits == list(filter(None, [first["git_commit"], "c" * 40]))
    assert f"This run began with commit {first['git_commit']}, now {'c' * 40}: it may go on" in caplog.text


def test_a_signal_before_the_first_step_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the data are made, for example."""
    monkeypatch.setattr(build, "data_module", lambda cfg: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted, match="the run was stopped by SIGTERM: resume=true continues"):
        run.train(*compose_run(tmp_path / "run", *BARE))
    outcome = results.read(tmp_path / "run")
    assert (outcome["status"], outcome["reason"].startswith("the run was stopped by SIGTERM")) == ("interrupted", True)
