"""Every experiment and sweep composes to the settings of the paper and the public study; nonsense is refused."""

from __future__ import annotations

import inspect
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from deft_lightning import DeftError
from deft_lightning.common.conf import config_folder
from deft_lightning.evaluation.scores import NAMES, Settings
from deft_lightning.launch.sweep import job_folder
from deft_lightning.model.compiling import can_compile
from deft_lightning.model.networks import Locatello
from deft_lightning.training import build, config, distributed, precision
from deft_lightning.training.trainer_fields import REFUSED
from tests.helpers import compose_run

DATA = (
    "dsprites",
    "color_dsprites",
    "noisy_dsprites",
    "scream_dsprites",
    "smallnorb",
    "shapes3d",
    "cars3d",
    "mpi3d",
)
METHODS = {
    "beta_vae": "beta-VAE",
    "annealed_vae": "AnnealedVAE",
    "factor_vae": "FactorVAE",
    "dip_vae_i": "DIP-VAE-I",
    "dip_vae_ii": "DIP-VAE-II",
    "beta_tcvae": "beta-TCVAE",
    "deft": "DEFT",
    "deft_tc": "DEFT (TC)",
}
STUDY = {  # REFERENCE: the values of the public study (Locatello et al. 2019), and their field
    "beta_vae": ("schedule.pressure", [1, 2, 4, 6, 8, 16]),
    "annealed_vae": ("schedule.c_max", [5, 10, 25, 50, 75, 100]),
    "factor_vae": ("objective.gamma", [10, 20, 30, 40, 50, 100]),
    "dip_vae_i": ("objective.lambda_od", [1, 2, 5, 10, 20, 50]),
    "dip_vae_ii": ("objective.lambda_od", [1, 2, 5, 10, 20, 50]),
    "beta_tcvae": ("objective.beta", [1, 2, 4, 6, 8, 10]),
}
TABLE_1 = {
    "dsprites": ([3, 3, 2, 2], [2, 2, 4, 15], [70, 30, 12, 1]),
    "color_dsprites": ([3, 3, 2, 2], [2, 2, 4, 15], [160, 105, 30, 1]),
    "scream_dsprites": ([5, 5], [4, 15], [140, 1]),
    "smallnorb": ([3, 3, 2, 2], [20, 40, 40, 400], [30, 5, 3, 1]),
}


def _compose(*overrides: str) -> DictConfig:
    cfg, _ = compose_run(Path("unused"), base=overrides)
    return cfg


def _label(cfg: DictConfig) -> str:
    """What tables and figures call the method of `cfg`."""
    return config.build_choices(cfg).method(cfg.method).label


def _jobs(*overrides: str) -> list[list[str]]:
    """The overrides of every job that --multirun makes of a command line."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("config", overrides=list(overrides), return_hydra_config=True)
    params = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*params, *overrides])
    return BasicSweeper.split_arguments(parsed, None)[0]


def _seeds(jobs: list[list[str]]) -> dict[tuple[str, ...], list[int]]:
    """The seeds of jobs that differ in nothing else, by their other overrides."""
    seeds: dict[tuple[str, ...], list[int]] = {}
    for job in jobs:
        (seed,) = (override for override in job if override.startswith("seed="))
        others = tuple(override for override in job if override != seed)
        seeds.setdefault(others, []).append(int(seed.removeprefix("seed=")))
    return seeds


@pytest.mark.parametrize(("experiment", "data"), product(METHODS, DATA))
def test_every_method_composes_with_every_data_set(experiment: str, data: str) -> None:
    cfg = _compose(f"+experiment={experiment}", f"data={data}")
    choices = config.build_choices(cfg)
    assert choices.method().label == METHODS[experiment]
    assert sum(choices.groups.latents) == 10
    assert cfg.lr == 5e-4


@pytest.mark.parametrize("experiment", [path.stem for path in (config_folder() / "experiment").glob("*.yaml")])
def test_every_experiment_has_its_own_name(experiment: str) -> None:
    cfg = _compose(f"+experiment={experiment}")
    config.build_choices(cfg)
    assert cfg.name == experiment


@pytest.mark.parametrize("data", TABLE_1)
@pytest.mark.parametrize("experiment", ["deft", "deft_tc"])
def test_deft_takes_its_stages_from_table_1(experiment: str, data: str) -> None:
    cfg = _compose(f"+experiment={experiment}", f"data={data}")
    assert (list(cfg.groups.latents), list(cfg.schedule.epochs), list(cfg.schedule.pressures)) == TABLE_1[data]


@pytest.mark.parametrize("data", ["shapes3d", "cars3d", "mpi3d"])
def test_data_that_the_paper_has_no_settings_for_take_those_of_dsprites(data: str) -> None:
    cfg = _compose(f"+experiment={data}")
    assert cfg.data == _compose("+experiment=deft", f"data={data}").data
    assert (list(cfg.groups.latents), list(cfg.schedule.epochs), list(cfg.schedule.pressures)) == TABLE_1["dsprites"]


@pytest.mark.parametrize("objective", ["factor_vae", "dip_vae_i", "dip_vae_ii", "beta_tcvae"])
def test_deft_on_another_base_method_is_two_overrides(objective: str) -> None:
    cfg = _compose("+experiment=color_dsprites", f"objective={objective}")
    choices = config.build_choices(cfg)
    assert choices.method().label == f"DEFT ({METHODS[objective]})"
    assert choices.schedule.stages == len(choices.groups) == 4


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ("+experiment=deft", "objective=annealed_vae"),
            "gives a pressure and AnnealedVAE needs a capacity: use schedule=capacity",
        ),
        (
            ("+experiment=annealed_vae", "objective=beta_vae"),
            "gives a capacity and beta-VAE needs a pressure: use schedule=constant",
        ),
        (
            ("+experiment=deft", "groups.inactive=sometimes"),
            "groups.inactive is 'sometimes': use one of scaled",
        ),
        (("+experiment=deft", "groups.gamma_on=loss"), "groups.gamma_on is 'loss': use one of learning_rate"),
        (("+experiment=deft", "groups.adam_at_switch=0"), "groups.adam_at_switch is 0: use one of kept, reset"),
        (("+experiment=annealed_vae", "schedule.c_max=0"), "schedule.c_max is 0: give a number above 0"),
        (("+experiment=beta_vae", "schedule.steps=null"), "schedule.epochs and schedule.steps are both null"),
        (("+experiment=beta_vae", "schedule.steps=-5"), "schedule.steps is -5: give a number above 0"),
        (("metrics.bins=1",), "metrics.bins is 1: give a whole number from 2 up"),
        (("metrics.each_stage=[mig,fid]",), "metrics.each_stage holds 'fid': give one of mig, modularity"),
        (("metrics.at_end=dci",), "metrics.at_end is 'dci': give a list of"),
        (("metrics.votes=[10]",), "metrics.votes is .*: give the batches to train on and to test on"),
        (("metrics.dci_estimator=trees",), "metrics.dci_estimator is 'trees': use one of reference, fast"),
        (("metrics=full", "metrics.bootstrap=200", "metrics.infomec_mi=knn"), "metrics.infomec_mi=binned with"),
        (("metrics.votes=5",), "metrics.votes is 5: give the batches to train on and to test on"),
        (("metrics.votes=[true,1]",), "metrics.votes is .True, 1.: give the batches to train on and to test on"),
        (("metrics.each_stage=[[mig]]",), "metrics.each_stage holds .'mig'.: give one of"),
        (("likelihood=gaussian", "likelihood.sigma=0"), "likelihood.sigma is 0: give a number above 0"),
        (("optimizer.betas=0.9",), "optimizer.betas is 0.9: give two numbers"),
        (("networks=residual", "networks.channels=2"), "4 groups, more than the 2 channels"),
        (("networks=residual", "+data.image_size=48"), "images of 48 x 48 do not fit the networks"),
        (
            ("networks._target_=tests.helpers.TinySprites",),
            "networks is tests.helpers:TinySprites, which is no deft_lightning.Networks",
        ),
        (("lr=nan",), "lr is nan: give a number above 0"),
        (("+experiment=beta_vae", "schedule.steps=inf"), "schedule.steps is inf: give a number above 0"),
        (("schedule.pressures=[nan,1,1,1]",), "schedule.pressures holds nan, which is not a number"),
        (("+trainer.accumulate_grad_batches=2",), "trainer.accumulate_grad_batches is 2: set batch_size"),
        (("+metrics.points=5",), "metrics.points is not a field of the configuration"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(overrides: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        config.build_choices(_compose(*overrides))


@pytest.mark.parametrize("field", REFUSED)
def test_a_field_of_the_trainer_that_has_no_effect_is_refused(field: str) -> None:
    with pytest.raises(DeftError, match=rf"^trainer\.{field} is 7: (set|leave)"):
        config.build_choices(_compose(f"+trainer.{field}=7"))


@pytest.mark.parametrize("experiment", METHODS)
def test_every_method_composes_with_apples_gpus(
    experiment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In single precision, on one device, and nothing is compiled there."""
    cfg = _compose(f"+experiment={experiment}", "trainer=mps", "trainer.precision=auto")
    config.build_choices(cfg)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    seen: dict[str, object] = {}
    monkeypatch.setattr(config, "build", lambda cfg, key, **fields: seen.update(cfg[key], **fields))
    monkeypatch.setattr(build, "callbacks", lambda cfg: [])
    build.trainer(cfg, tmp_path, [], 5, precision.resolve(cfg.trainer.precision, cfg.trainer.accelerator))
    assert (seen["accelerator"], seen["devices"], seen["precision"]) == ("mps", 1, "32-true")
    assert distributed.processes(cfg) == 1
    assert not can_compile("mps")


def test_every_field_of_the_trainer_that_a_run_sets_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, object] = {}
    build_part = config.build
    monkeypatch.setattr(
        config, "build", lambda cfg, key, **fields: seen.update(fields) if key == "trainer" else build_part(cfg, key)
    )
    build.trainer(_compose(), tmp_path, [], 5, "32-true")
    assert set(seen) - set(REFUSED) == {"precision", "enable_progress_bar"}  # these two it takes from the user
    assert set(REFUSED) <= set(inspect.signature(pl.Trainer).parameters)


@pytest.mark.parametrize(
    ("overrides", "typed", "sentence"),
    [
        (("+experiment=beta_vae",), ("schedule.epochs=5", "schedule.steps=20"), "no effect since schedule.epochs is 5"),
        (("+experiment=fig12_annealed_decomposition",), ("schedule.steps=20",), None),
        (("+experiment=fig2_leakage",), ("schedule.steps=20", "schedule.epochs=null"), None),
        (("+experiment=fig2_leakage",), ("schedule.epochs=2",), None),
        (
            ("+experiment=deft",),
            ("schedule=auto", "schedule.epochs=[1]"),
            "=auto does not use it: set schedule.path",
        ),
        (
            ("+experiment=deft",),
            ("+schedule.pressure=6",),
            "=piecewise does not use it: set schedule.pressures",
        ),
        (
            ("+experiment=beta_vae",),
            ("+schedule.pressures=[7,6]",),
            "schedule.pressures is .7, 6., and schedule=constant does not use it: set schedule.pressure",
        ),
        (
            ("+experiment=annealed_vae",),
            ("+schedule.pressure=6",),
            "=capacity does not use it: set schedule.c_max or schedule.increase_steps.$",
        ),
        (("+experiment=fig11_constant_pressure",), ("schedule=piecewise",), None),  # it sets a pressure by itself
        (("+experiment=deft",), ("~schedule.epochs",), None),
    ],
)
def test_a_typed_length_or_pressure_that_has_no_effect_is_refused(
    overrides: tuple[str, ...], typed: tuple[str, ...], sentence: str | None
) -> None:
    cfg = _compose(*overrides, *typed)
    if sentence is None:
        config.check_overrides(cfg, [*overrides, *typed])
        return
    with pytest.raises(DeftError, match=sentence):
        config.check_overrides(cfg, [*overrides, *typed])


def test_a_schedule_of_a_class_that_is_not_there_is_one_sentence() -> None:
    overrides = ["schedule._target_=my_module.MySchedule", "schedule.pressures=[7,6]"]
    with pytest.raises(DeftError, match=r"schedule needs the module my_module, which cannot be found"):
        config.check_overrides(_compose("+experiment=deft", *overrides), overrides)


@pytest.mark.parametrize(
    ("command", "field"),
    [("thresholds", "epochs"), ("thresholds_factors", "epochs"), ("thresholds_propose", "pressures")],
)
def test_the_anneal_test_takes_of_the_experiments_schedule_what_it_uses(command: str, field: str) -> None:
    """A proposal has its length, and thresholds of factors are drawn with its pressures."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose(command, overrides=["schedule.epochs=[1,1]", "schedule.pressures=[9,1]"])
    config.check_overrides(cfg, ["schedule.steps=4000"])
    uses = {"thresholds_factors": "pressures", "thresholds_propose": "epochs"}.get(command)
    if uses:
        config.check_overrides(cfg, [f"schedule.{uses}=[9,1]"])
    with pytest.raises(DeftError, match=f"schedule.{field} is .*, and schedule=anneal does not use it"):
        config.check_overrides(cfg, [f"schedule.{field}=[1,1]"])


def test_the_paper_scores_all_five_and_full_scores_everything() -> None:
    settings = {name: Settings(**config.to_plain(_compose(f"metrics={name}"), "metrics")) for name in ("paper", "full")}
    assert {"mig", "dci", "modularity", "factor_vae", "sap"} <= set(settings["paper"].names)
    assert set(settings["full"].names) == set(NAMES)
    for each in settings.values():  # the protocol of the field
        assert (each.num_points, each.num_test, each.bins, list(each.votes)) == (10_000, 5_000, 20, [10_000, 5_000])


def test_locatello_is_the_architecture_of_the_public_study() -> None:
    cfg = _compose("+experiment=beta_vae", "networks=locatello")
    assert isinstance(config.build_choices(cfg).networks, Locatello)
    assert (list(cfg.groups.latents), cfg.lr) == ([10], 1e-4)


def test_capacity_rises_to_its_end() -> None:
    overrides = ("+experiment=annealed_vae", "schedule.c_max=50")
    whole = config.build_choices(_compose(*overrides)).schedule.timeline(11_520)
    assert [whole.at(step).pressure for step in (0, 50_000, 100_000, 299_999)] == [0, 25, 50, 50]
    assert whole.boundaries == (300_000,)
    short = config.build_choices(_compose(*overrides, "scale.fraction=0.1")).schedule.timeline(11_520)
    assert short.boundaries == (30_000,)
    assert short.at(5_000).pressure == pytest.approx(25)


@pytest.mark.slow  # composes 36 configurations
def test_the_baselines_are_six_methods_six_values_fifty_seeds() -> None:
    jobs = _jobs("+sweep=baselines", "data=color_dsprites")
    assert len(jobs) == len({tuple(job) for job in jobs}) == 6 * 6 * 50
    for experiment, (field, values) in STUDY.items():
        ours = [job for job in jobs if f"+experiment@_global_={experiment}" in job and "seed=49" in job]
        composed = [_compose(*job) for job in ours]
        assert [OmegaConf.select(cfg, field) for cfg in composed] == values
        assert {cfg.name for cfg in composed} == {"baselines"}  # one W&B group, one folder
        choices = [config.build_choices(cfg) for cfg in composed]
        assert {type(choice.networks) for choice in choices} == {Locatello}  # as in the study
        assert {cfg.lr for cfg in composed} == {1e-4}
        assert {choice.method().label for choice in choices} == {METHODS[experiment]}


@pytest.mark.parametrize(
    ("experiment", "methods", "seeds"),
    [
        ("fig2_leakage", {"beta-VAE": 1}, 1),
        ("fig5_gamma", {"DEFT": 6}, 1),
        ("fig10_normal_encoder", {"beta-VAE, piecewise": 10}, 10),
        ("fig11_constant_pressure", {"beta-VAE": 40, "beta-VAE, 2 groups": 40}, 40),
        ("fig12_annealed_decomposition", {"AnnealedVAE": 1}, 1),
        ("fig13_deft_tc", {"beta-VAE": 10, "DEFT": 10, "DEFT (TC)": 10}, 10),
    ],
)
def test_multirun_of_a_figure_makes_all_its_runs(experiment: str, methods: dict[str, int], seeds: int) -> None:
    counts: Counter[str] = Counter()
    for overrides, its_seeds in _seeds(_jobs(f"+experiment={experiment}")).items():
        cfg = _compose(*overrides, f"seed={its_seeds[-1]}")
        counts[_label(cfg)] += len(its_seeds)
        assert its_seeds == list(range(seeds))
        assert cfg.seed == seeds - 1
        assert cfg.name == experiment
        assert cfg.data["_target_"].rpartition(".")[2] == "DSprites"
    assert counts == methods


def test_the_methods_of_figure_13_train_equally_long() -> None:
    composed = [_compose(*overrides) for overrides in _seeds(_jobs("+experiment=fig13_deft_tc"))]
    assert len(composed) == 3
    assert {config.build_choices(cfg).schedule.timeline(11_520).length for cfg in composed} == {264_960}


def test_a_variant_of_deft_is_named_after_it() -> None:
    variant = ("groups.inactive=frozen", "groups.adam_at_switch=reset")
    assert _label(_compose("+experiment=deft", *variant)) == "DEFT, frozen, Adam reset"


@pytest.mark.slow  # composes 28 configurations
def test_the_paper_sweep_is_seven_methods_on_four_data_sets_ten_times() -> None:
    jobs = _jobs("+sweep=paper")
    folders = {job_folder("paper", 0, job, []) for job in jobs}
    assert len(jobs) == len(folders) == 7 * 4 * 10
    first = [_compose(*job) for job in jobs[::10]]  # one seed of each
    methods = {*METHODS.values()} - {"DEFT (TC)"}
    assert {(_label(cfg), cfg.data._target_) for cfg in first} == set(
        product(methods, {cfg.data._target_ for cfg in first})
    )
    deft = next(cfg for cfg in first if _label(cfg) == "DEFT" and "SmallNORB" in cfg.data._target_)
    assert (
        tuple(list(part) for part in (deft.groups.latents, deft.schedule.epochs, deft.schedule.pressures))
        == (TABLE_1["smallnorb"])
    )


def test_the_small_sweep_is_deft_and_beta_vae_twice_at_quick_scale() -> None:
    jobs = [_compose(*job) for job in _jobs("+sweep=small")]
    assert [(_label(cfg), cfg.seed) for cfg in jobs] == list(product(["DEFT", "beta-VAE"], [0, 1]))
    assert {cfg.scale.name for cfg in jobs} == {"quick"}


def test_figure_5_is_one_run_for_every_gamma() -> None:
    composed = [_compose(*job) for job in _jobs("+experiment=fig5_gamma")]
    assert [cfg.groups.gamma for cfg in composed] == [0, 0.01, 0.1, 0.2, 0.5, 1]
    assert {cfg.shared_stages.folder for cfg in composed} == {"multirun_outputs/fig5_gamma/shared_stages/seed0"}
    assert {tuple(cfg.schedule.pressures) for cfg in composed} == {(70, 30)}
