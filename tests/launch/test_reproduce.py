"""The rows of `make reproduce`: their runs, steps, costs and commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from deft_lightning.common.conf import config_folder
from deft_lightning.launch import reproduce
from deft_lightning.training import config

RATES = {(kind, channels): 1000.0 for kind in ("groups", "single") for channels in (1, 3)}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "measure", lambda seconds: RATES)
    return tmp_path


def test_a_row_has_the_steps_of_the_paper() -> None:
    rows = reproduce.ROWS
    assert rows["table2_dsprites"].steps == rows["table2_color"].steps == 264_960
    assert rows["table2_scream"].steps == 218_880
    assert rows["table2_smallnorb"].steps == 379_500
    assert rows["fig5"].steps * 6 == (2 + 6 * 2) * 11_520  # a first stage for all, and six second ones


def test_costs_are_images_through_speed() -> None:
    row = reproduce.ROWS["table2_dsprites"]
    assert reproduce.hours(row, ("deft", "beta_vae"), 3, 15_898, RATES) == pytest.approx(6 * 15_898 * 64 / 1000 / 3600)
    twice = RATES | {("groups", 1): 500.0}
    assert reproduce.hours(row, ("deft", "beta_vae"), 3, 15_898, twice) == pytest.approx(9 * 15_898 * 64 / 1000 / 3600)


@pytest.mark.parametrize(
    ("row", "single", "grouped"), [("fig10", 1, 0), ("fig11", 1, 1), ("fig13", 1, 2), ("fig5", 0, 6)]
)
def test_costs_of_figures_count_the_runs_with_encoder_groups(row: str, single: int, grouped: int) -> None:
    """A step with groups takes twice as long here; 1,000 steps of 64 images take 64 s, or 128."""
    rates = RATES | {("groups", 1): 500.0}
    seconds = 64 * single + 128 * grouped
    assert reproduce.hours(reproduce.ROWS[row], (), 1, 1000, rates) == pytest.approx(seconds / 3600)


@pytest.mark.slow  # composes many configurations
@pytest.mark.parametrize("row", reproduce.ROWS)
def test_every_command_composes_and_methods_have_equal_steps(row: str) -> None:
    lengths = set()
    for command in reproduce.commands(row, "quick", 2, reproduce.METHODS):
        overrides = [word for word in command[4:] if not word.startswith(("hydra", "seed="))]
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            cfg = compose("config", overrides=overrides)
        chosen = reproduce.ROWS[row]
        assert cfg.scale.name == "quick"
        if row != "fig13":  # its jobs choose experiments of their own
            timeline = config.build_choices(cfg).schedule.timeline(reproduce.STEPS_PER_EPOCH[chosen.data])
            lengths.add(timeline.length)
    assert len(lengths) <= 1
    if lengths:
        whole = 46_080 if row == "fig5" else reproduce.ROWS[row].steps  # of which every gamma trains the second half
        assert lengths == {round(whole * 0.06)}


def test_a_sweep_that_was_begun_is_resumed(elsewhere: Path) -> None:
    first, second = reproduce.commands("table2_dsprites", "quick", 3, ("deft", "beta_vae"))
    assert "sweep.resume=false" in first
    folder = elsewhere / "multirun_outputs" / "table2_dsprites_quick_deft_3"
    folder.mkdir(parents=True)
    (folder / "multirun.yaml").write_text("")
    first, second = reproduce.commands("table2_dsprites", "quick", 3, ("deft", "beta_vae"))
    assert "sweep.resume=true" in first
    assert "sweep.resume=false" in second
    assert "schedule.epochs=23" in second


def test_the_command_prints_the_costs_and_runs_the_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[list[str]] = []

    class Done:
        returncode = 0

    monkeypatch.setattr(reproduce.subprocess, "run", lambda command, check: begun.append(command) or Done())
    assert reproduce.main(["--row", "fig10", "--seeds", "5", "--cost"]) == 0
    assert not begun
    assert "table2_smallnorb" in capsys.readouterr().out
    assert reproduce.main(["--row", "fig10", "--seeds", "5"]) == 0
    (command,) = begun
    assert "+experiment=fig10_normal_encoder" in command
    assert "seed=range(5)" in command
    Done.returncode = 1
    assert reproduce.main(["--row", "table2_dsprites", "--methods", "all"]) == 1
    assert len(begun) == 1 + len(reproduce.METHODS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--row", "fig9"], "ROW is 'fig9': choose one of table2_dsprites"),
        (["--seeds", "0"], "SEEDS is 0: give 1 or more"),
        (["--methods", "deft,mine"], "METHODS holds 'mine': give all, or some of deft"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: list[str], sentence: str, capsys) -> None:
    assert reproduce.main(arguments) == 1
    assert sentence in capsys.readouterr().err
