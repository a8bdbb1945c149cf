"""Which runs are compared with which: swept values, sources, scales, repetitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deft_lightning.report import swept
from deft_lightning.report.loading import load
from deft_lightning.report.study import Study
from tests.report import factory


def study_of(folder: Path, *contents: dict[str, Any]) -> Study:
    for i, content in enumerate(contents):
        factory.write(folder / f"{i:03d}", content)
    return Study(load([folder]))


def scored(mig: float, **options: Any) -> dict[str, Any]:
    """A finished run with this MIG."""
    content = factory.result(**options)
    content["stages"] = {"stage_1": {"scores": {"mig": mig, "reconstruction": 50.0}}}
    return content


def test_the_best_value_has_the_highest_mean_mig(tmp_path: Path) -> None:
    """Pressure 4 has the best single run, pressure 8 the best mean: the latter is the best value."""
    migs = {4: (0.9, 0.0, 0.0), 8: (0.4, 0.4, 0.4)}
    runs = [scored(m, method="beta-VAE", pressure=p, seed=s) for p, row in migs.items() for s, m in enumerate(row)]
    study = study_of(tmp_path, *runs)
    assert study.best_value("dSprites", "beta-VAE") == "pressure 8"
    assert study.cells("mig")["dSprites", "beta-VAE"].tolist() == [0.4] * 3
    assert len(study.cells("mig", best=False)["dSprites", "beta-VAE"]) == 6


def test_values_are_swept_within_a_method_and_data_set(tmp_path: Path) -> None:
    """A pressure that differs between data sets or methods is not swept; neither is the seed, nor 6 next to 6.0."""
    study = study_of(
        tmp_path,
        scored(0.1, method="beta-VAE", pressure=6, seed=0),
        scored(0.2, method="beta-VAE", pressure=6.0, seed=1, config_digest="b"),
        scored(0.3, method="beta-VAE", pressure=4, dataset="smallnorb"),
        scored(0.4, method="FactorVAE", pressure=1),
    )
    assert set(study.compared["value"]) == {""}
    assert study.compared["best"].all()


def test_an_absent_setting_counts_as_its_default(tmp_path: Path) -> None:
    """A field that is null, or that is the default of a run that does not have it."""
    older, newer = (scored(0.3, seed=s, config_digest=str(s)) for s in (0, 1))
    for part in ("networks", "likelihood", "optimizer"):
        del older["training"][part]
    newer["training"] |= {"init_from": None, "shared_stages": None}
    newer["training"]["groups"]["new_field"] = None
    assert set(study_of(tmp_path, older, newer).compared["value"]) == {""}


def test_names_are_swept_where_the_label_does_not_tell_them_apart(tmp_path: Path) -> None:
    """Runs with different networks or schedules are at different values, which show the names."""
    wide, adaptive = (scored(0.1 * s, seed=s, config_digest=str(s)) for s in (1, 2))
    wide["training"]["networks"] = {"name": "locatello"}
    adaptive["training"]["schedule"]["name"] = "adaptive"
    study = study_of(tmp_path, scored(0.0), wide, adaptive)
    assert study.compared["value"].tolist() == [
        "schedule piecewise, networks burgess",
        "schedule piecewise, networks locatello",
        "schedule adaptive, networks burgess",
    ]
    assert study.best_value("dSprites", "DEFT") == "schedule adaptive, networks burgess"


def test_objectives_of_one_label_are_not_at_one_value(tmp_path: Path) -> None:
    """A user's objective may have the label of one of the package's."""
    users = scored(0.2, method="beta-VAE", seed=1)
    users["training"]["objective"]["name"] = "mine:Objective"
    study = study_of(tmp_path, scored(0.1, method="beta-VAE"), users)
    assert study.compared["value"].tolist() == ["objective beta_vae", "objective mine:Objective"]


def test_data_sets_of_one_name_from_other_code_are_kept_apart(tmp_path: Path) -> None:
    users = scored(0.2, seed=1)
    users["training"]["data"]["name"] = "mine:Sprites"
    study = study_of(tmp_path, scored(0.1), users)
    assert study.data == ["dSprites", "dSprites (mine:Sprites)"]
    assert study.compared["best"].all()


def test_several_fields_are_swept_together(tmp_path: Path) -> None:
    contents = [scored(0.1 * i, method="DIP-VAE-I", seed=i, config_digest=str(i)) for i in (1, 2)]
    for i, content in enumerate(contents, 1):
        content["training"]["objective"] |= {"off_diagonal": float(i), "diagonal": 10.0 * i}
    study = study_of(tmp_path, *contents)
    assert study.best_value("dSprites", "DIP-VAE-I") == "off_diagonal 2, diagonal 20"


def test_runs_of_different_likelihoods_are_different_methods(tmp_path: Path) -> None:
    """Neither pooled nor ranked against each other by MIG, and a user's own name does not bring them together."""
    contents = [scored(0.1 * (seed + 1), seed=seed, config_digest=str(seed)) for seed in range(4)]
    for content in contents[2:]:
        content["training"]["likelihood"] = {"name": "gaussian", "sigma": 0.1}
        content["method"]["likelihood"] = "Gaussian sigma 0.1"
    study = study_of(tmp_path, *contents)
    assert list(study.methods) == ["DEFT", "DEFT, Gaussian sigma 0.1"]
    assert {label: len(x) for (_, label), x in study.cells("mig", best=False).items()} == dict.fromkeys(
        study.methods, 2
    )
    assert study.compared["best"].all()
    for content in contents:
        content["method"]["name"] = "ours"
    assert list(study_of(tmp_path / "named", *contents).methods) == ["ours", "ours, Gaussian sigma 0.1"]


def test_a_run_from_before_a_choice_had_fields_has_the_same_settings(tmp_path: Path) -> None:
    """Recorded as {"name": "adam"} alone, and with all fields: nothing was swept."""
    contents = [scored(0.1, seed=seed, config_digest=str(seed)) for seed in range(2)]
    contents[1]["training"]["optimizer"] = {"name": "adam", "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0}
    assert study_of(tmp_path, *contents).best_value("dSprites", "DEFT") == ""


def test_without_mig_no_value_is_preferred(tmp_path: Path) -> None:
    contents = [scored(0.1, method="beta-VAE", pressure=p) for p in (2, 4)]
    for content in contents:
        del content["stages"]["stage_1"]["scores"]["mig"]
    study = study_of(tmp_path, *contents)
    assert study.compared["best"].all()
    assert study.cells("mig") == {}
    assert len(study.cells("reconstruction")["dSprites", "beta-VAE"]) == 2


def test_sources_are_kept_apart_and_said(tmp_path: Path) -> None:
    study = study_of(tmp_path, scored(0.1, source="published"), scored(0.3, source="rendered"))
    assert study.data == ["dSprites (published)", "dSprites (rendered)"]
    assert study.cells("mig")["dSprites (published)", "DEFT"].tolist() == [0.1]
    assert any("different sources" in notice for notice in study.notices)


def test_one_source_is_not_repeated_in_every_label(tmp_path: Path) -> None:
    """The background of Scream dSprites is one more detail of it, and no second source of the others."""
    study = study_of(tmp_path, scored(0.1), scored(0.3, dataset="scream_dsprites"))
    assert study.data == ["dSprites", "Scream dSprites"]
    assert study.notices == []


def test_backgrounds_are_sources_too(tmp_path: Path) -> None:
    other = scored(0.1, dataset="scream_dsprites")
    other["data"]["background"] = "painting"
    study = study_of(tmp_path, other, scored(0.3, dataset="scream_dsprites"))
    assert len(study.data) == 2
    assert all("background" in label for label in study.data)


def test_scales_are_kept_apart_and_said(tmp_path: Path) -> None:
    quick = scored(0.1, seed=1)
    quick["training"]["scale"] |= {"name": "quick", "fraction": 0.06}
    quick["training"]["schedule"]["fraction"] = 0.06
    study = study_of(tmp_path, quick, scored(0.3))
    assert study.data == ["dSprites (6% of the steps)", "dSprites (full schedule)"]
    assert set(study.compared["value"]) == {""}
    assert any("fractions of their schedules" in notice for notice in study.notices)


def test_a_repeated_run_counts_once_the_latest(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        scored(0.1, started="2026-01-02T00:00:00+0000"),
        scored(0.2, started="2026-01-03T00:00:00+0000"),
        scored(0.3, started="2026-01-01T00:00:00+0000"),
    )
    assert study.compared["mig"].tolist() == [0.2]
    assert any("2 finished runs repeat" in notice for notice in study.notices)


@pytest.mark.parametrize("status", ["starting", "running", "interrupted", "failed"])
def test_an_unfinished_run_counts_nowhere_and_is_said(tmp_path: Path, status: str) -> None:
    study = study_of(tmp_path, scored(0.3), scored(0.0, seed=1, method="FactorVAE", status=status))
    assert list(study.methods) == ["DEFT"]
    assert study.compared["mig"].tolist() == [0.3]
    (notice,) = study.notices
    assert f"1 of 2 runs did not finish (1 {status})" in notice
    assert "1 FactorVAE" in notice


def test_diverged_runs_are_listed_apart_from_failed_ones(tmp_path: Path) -> None:
    runs = [scored(0.0, seed=s, method="FactorVAE", status=status) for s, status in enumerate(("failed", "diverged"))]
    study = study_of(tmp_path, scored(0.3), *runs)
    assert study.compared["mig"].tolist() == [0.3]
    failed, diverged = study.notices
    assert "1 of 3 runs did not finish (1 failed)" in failed
    assert "1 of 3 runs diverged" in diverged


def test_branches_of_the_gamma_study_and_anneal_tests_are_no_distribution(tmp_path: Path) -> None:
    anneal_test = factory.result(seed=3, stages={})
    branch, shared = (scored(0.9, seed=1, name=name) for name in ("fig5_gamma", "fig5_gamma_shared_stages"))
    study = study_of(tmp_path, scored(0.3), branch, shared, anneal_test)
    assert study.compared["mig"].tolist() == [0.3]


def test_a_study_of_nothing_finished_is_empty(tmp_path: Path) -> None:
    study = study_of(tmp_path, scored(0.3, status="running"))
    assert (study.data, study.methods, study.scores) == ([], {}, [])
    assert study.cells("mig") == {}


def test_unknown_data_and_methods_come_after_the_papers(tmp_path: Path) -> None:
    mine = scored(0.2, method="a new one")
    mine["data"] = {"name": "a_photo_album", "source": "rendered"}
    study = study_of(tmp_path, mine, scored(0.3, dataset="smallnorb"), scored(0.3, method="AnnealedVAE"))
    assert study.data == ["dSprites", "SmallNORB", "a_photo_album"]
    assert list(study.methods) == ["DEFT", "AnnealedVAE", "a new one"]


def test_what_differs_with_the_seed_alone_is_no_swept_value(tmp_path: Path) -> None:
    """The run that each starts from, and a pressure found in images of which every seed holds out others."""
    contents = []
    for seed in range(3):
        content = scored(0.1 * seed, seed=seed) | {"found": ["schedule.beta_high"]}
        content["training"] |= {"init_from": f"outputs/run_{seed}"}
        content["training"]["schedule"] |= {"beta_high": 64 + seed / 10}
        contents.append(content)
    assert set(swept.values(dict(enumerate(study_of(tmp_path, *contents).runs))).values()) == {""}
    contents[2]["found"] = []  # this one was given
    assert len(set(swept.values(dict(enumerate(study_of(tmp_path / "given", *contents).runs))).values())) > 1


def custom(mig: float, folder: str, digest: str, **options: Any) -> dict[str, Any]:
    """A run on images of the user's own, which all have the name "custom" and the source "file"."""
    content = scored(mig, **options) | {"config_digest": f"{folder}{options}"}
    content["data"] |= {"name": "custom", "source": "file", "path": f"/pictures/{folder}", "digest": digest}
    content["training"]["data"] = {"name": "custom", "path": f"/pictures/{folder}", "image_size": 64}
    return content


def test_images_of_the_users_own_are_kept_apart_by_their_digest(tmp_path: Path) -> None:
    """Faces and cars are two data sets; the same images in another folder are one."""
    runs = [custom(0.4, "faces", "f" * 16, seed=0), custom(0.4, "moved/faces", "f" * 16, seed=1)]
    study = study_of(tmp_path / "one", *runs)
    assert study.data == ["custom"]
    assert study.notices == []
    study = study_of(tmp_path / "two", *runs, custom(0.05, "cars", "c" * 16, seed=0))
    assert study.data == ["custom (cars)", "custom (faces)"]
    assert study.cells("mig")["custom (faces)", "DEFT"].tolist() == [0.4, 0.4]
    assert any("different images" in notice for notice in study.notices)
    study = study_of(tmp_path / "changed", *runs, custom(0.05, "faces", "c" * 16, seed=0))
    assert study.data == [f"custom (digest {'c' * 16})", f"custom (digest {'f' * 16})"]


def test_torch_datasets_without_a_digest_are_kept_apart_by_their_arguments(tmp_path: Path) -> None:
    runs = [scored(0.1 * seed, seed=seed) for seed in (1, 2)]
    for run, split in zip(runs, ("train", "test"), strict=True):
        run["data"] |= {"name": "Photos", "source": "torch"}
        run["training"]["data"] = {"name": "mine:Photos", "split": split}
    assert study_of(tmp_path, *runs).data == ["Photos (split test)", "Photos (split train)"]


def test_precisions_are_kept_apart_and_said(tmp_path: Path) -> None:
    """By what was used: a run of trainer.precision=auto records nothing else in `training`."""
    runs = [scored(0.1, seed=0), scored(0.3, seed=1)]
    runs[1] |= {"precision": "bf16-mixed"}
    runs[1]["training"]["trainer"] = {"precision": "bf16-mixed"}
    study = study_of(tmp_path, *runs)
    assert study.data == ["dSprites (32-true)", "dSprites (bf16-mixed)"]
    assert set(study.compared["value"]) == {""}
    assert study.compared["best"].all()
    assert any("different precisions" in notice for notice in study.notices)


def test_a_run_of_shared_stages_is_no_run_of_its_method(tmp_path: Path) -> None:
    study = study_of(tmp_path, scored(0.3), scored(0.05, seed=1, name="mine_shared_stages"))
    assert study.compared["mig"].tolist() == [0.3]


def test_whether_a_run_starts_from_another_is_a_setting(tmp_path: Path) -> None:
    """From which one is not; where several are meant, a sentence says so."""
    runs = [scored(0.2, seed=seed, config_digest=f"cold{seed}") for seed in (0, 1)]
    for seed in (0, 1):
        warm = scored(0.4, seed=seed, config_digest=f"warm{seed}")
        warm["training"]["init_from"] = f"outputs/good/{seed}"
        runs.append(warm)
    study = study_of(tmp_path / "one", *runs)
    assert study.compared["value"].tolist() == ["init_from none"] * 2 + ["init_from a run"] * 2
    assert study.notices == []
    other = scored(0.05, config_digest="other")
    other["training"]["init_from"] = "outputs/bad/0"
    (notice,) = study_of(tmp_path / "two", *runs, other).notices
    assert notice.startswith("2 runs share method, settings and seed")


def test_dci_of_different_estimators_is_said(tmp_path: Path) -> None:
    runs = [scored(0.2, seed=seed) for seed in (0, 1)]
    for run, estimator in zip(runs, ("reference", "fast"), strict=True):
        run["stages"]["stage_1"] |= {"dci_estimator": estimator}
    (notice,) = study_of(tmp_path, *runs).notices
    assert "different estimators (fast, reference)" in notice
    runs[0]["stages"]["stage_1"]["dci_estimator"] = "fast"
    assert study_of(tmp_path / "one", *runs).notices == []


@pytest.mark.parametrize("first", [True, False])
def test_codes_from_elsewhere_called_deft_do_not_change_what_deft_is(tmp_path: Path, first: bool) -> None:
    codes = scored(0.2, seed=1) | {"method": {"objective": "DEFT", "name": "DEFT"}}
    runs = [scored(0.3), codes]
    study = study_of(tmp_path, *(runs if first else reversed(runs)))
    assert study.methods["DEFT"].is_deft
