"""The table of logged keys is what objectives, scores and runs log, to metrics.csv and to an offline W&B run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deft_lightning.common import results
from deft_lightning.common.conf import config_folder
from deft_lightning.common.method import Method
from deft_lightning.dashboard import GROUPED_BY
from deft_lightning.evaluation import scores as scoring
from deft_lightning.training import config, run
from deft_lightning.training.logged_keys import KEYS, find, markdown
from tests.conftest import MakeOnce
from tests.helpers import TINY_BATCH, UNLABELLED, TinySprites, compose_run
from tests.model.objectives.batches import make_batch
from tests.offline_run import OfflineRun, without_wandb


def test_the_page_is_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "logged_keys.md"
    assert page.read_text() == markdown(), "python -m deft_lightning.training.logged_keys > docs/logged_keys.md"


def test_a_key_belongs_to_one_row() -> None:
    for key in KEYS:
        example = (
            key.pattern.replace("<latent>", "03")
            .replace("<group>", "2")
            .replace("<factor>", "posX")
            .replace("<part>", "kl")
        )
        assert [row for row in KEYS if row.matches(example)] == [key]
    for other in ("train/kl/latent_", "train/kl/latent_03/x", "score/migs", "learning_rate/group_0", "nmi/max1/"):
        assert find(other) is None


@pytest.mark.parametrize("file", sorted(path.stem for path in (config_folder() / "objective").glob("*.yaml")))
def test_the_parts_of_every_objective_are_in_the_table(file: str) -> None:
    objective = instantiate(OmegaConf.load(config_folder() / "objective" / f"{file}.yaml"))
    objective.build(4)
    objective.dataset_size = 100
    mean, log_variance = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0)).unbind()
    batch = make_batch(mean, log_variance)
    parts = batch.loss(objective).parts
    if objective.learns:
        parts |= objective.update(batch.sample, torch.Generator().manual_seed(0))
    logged = {f"train/{name}" if value.dim() == 0 else f"train/{name}_<latent>" for name, value in parts.items()}
    usual = [key for key in KEYS if not key.likelihood]
    patterns = [key.pattern for key in usual if not key.objectives or objective.label in key.objectives]
    assert logged == {pattern for pattern in patterns if pattern.startswith("train/")}
    assert [pattern for pattern in patterns if pattern in ("pressure", "capacity")] == [objective.quantity]


@pytest.mark.parametrize("file", sorted(path.stem for path in (config_folder() / "likelihood").glob("*.yaml")))
def test_what_every_likelihood_learns_is_in_the_table(file: str) -> None:
    likelihood = instantiate(OmegaConf.load(config_folder() / "likelihood" / f"{file}.yaml"))
    logged = {f"train/{name}" for name in likelihood.update(torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))}
    assert logged == {key.pattern for key in KEYS if key.likelihood == file}


def test_every_score_is_in_the_table() -> None:
    labelled = {f"score/{name}": True for metric in scoring.NAMES for name in scoring.score_names(metric)}
    for metric in scoring.TABLE_METRICS.values():
        labelled |= {f"score/{name}": metric.labelled for name in metric.scores.values()}
    labelled |= {"score/reconstruction": False, "score/kl": False}
    assert {key.pattern: key.labelled for key in KEYS if key.pattern.startswith("score/")} == labelled


class Tiny(NamedTuple):
    """A run of a few steps: its overrides, and what its method is called."""

    overrides: tuple[str, ...]
    label: str
    method: str
    groups: int = 1
    factors: Sequence[str] = TinySprites.space.factor_names
    metrics: Sequence[str] = ("mig", "modularity", "active_units", "total_correlation")
    config: str = "config"


DATA = (
    "data._target_=tests.helpers.TinySprites",
    "+data.channels=1",
    f"batch_size={TINY_BATCH}",
    "scale=smoke",
    "scale.fraction=1",
    "scale.num_points=96",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "logger=wandb",
    "tags=[one,two]",
)
STAGED = ("+experiment=dsprites", "schedule.epochs=[0.25,0.25,0.25,0.25]")
RUNS = {
    "DEFT": Tiny(
        (*STAGED, "metrics=full", "metrics.votes=[20,10]", "metrics.dci_estimator=fast"),
        "beta-VAE",
        "DEFT",
        4,
        metrics=scoring.NAMES,
    ),
    "FactorVAE": Tiny(
        ("+experiment=factor_vae", "schedule.epochs=0.5", "objective.hidden=16", "objective.layers=2"),
        "FactorVAE",
        "FactorVAE",
    ),
    "AnnealedVAE": Tiny(("+experiment=annealed_vae", "schedule.epochs=0.5"), "AnnealedVAE", "AnnealedVAE"),
    "unlabelled": Tiny((*STAGED, *UNLABELLED, "method=ours"), "beta-VAE", "ours", 4, factors=()),
    "anneal test": Tiny(
        ("+experiment=dsprites", "schedule.steps=20", "callbacks.anneal_recorder.window=2"),
        "beta-VAE",
        "beta-VAE",
        config="thresholds",
    ),
}


def documented(folder: Path, tiny: Tiny, logger: str) -> set[str]:
    """The keys that such a run logs according to the table."""
    callbacks = OmegaConf.load(folder / "config.yaml").callbacks
    scores = {"reconstruction", "kl"} | {name for metric in tiny.metrics for name in scoring.score_names(metric)}
    values = {
        "<latent>": [f"{j:02d}" for j in range(10)],
        "<group>": [str(i + 1) for i in range(tiny.groups)],
        "<factor>": tiny.factors,
    }
    keys: set[str] = set()
    for key in KEYS:
        section, _, name = key.pattern.partition("/")
        if (
            (key.objectives and tiny.label not in key.objectives)
            or (key.labelled and not tiny.factors)
            or (key.logger and logger not in key.logger.split(" and "))
            or (key.callback and key.callback not in callbacks)
            or key.likelihood
            or key.held_out
            or (section == "score" and name not in scores)
        ):
            continue
        names = [key.pattern]
        for placeholder, options in values.items():
            if placeholder in key.pattern:
                names = [text.replace(placeholder, option) for text in names for option in options]
        keys |= set(names)
    return keys


Trained = tuple[Path, Tiny]


@pytest.fixture(scope="session")
def train(make_once: MakeOnce) -> Callable[[str], Trained]:
    """Trains a run of `RUNS` once, logging to an offline W&B run as well."""
    pytest.importorskip("wandb")
    pytest.importorskip("lightgbm")  # the reference estimator of DCI takes most of a minute

    def train(name: str) -> Trained:
        def make(folder: Path) -> None:
            experiment, *others = RUNS[name].overrides
            base = (experiment, *DATA, *others)
            with pytest.MonkeyPatch.context() as patch:
                without_wandb(patch, folder.parent)
                run.train(*compose_run(folder, base=base, config=RUNS[name].config))

        return make_once(f"keys_{name.replace(' ', '_')}", make), RUNS[name]

    return train


# Slow: every run takes some seconds of training, of scores and pictures, and of starting W&B.
@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_metrics_csv_has_the_keys_of_the_table_and_no_other(name: str, train: Callable[[str], Trained]) -> None:
    folder, tiny = train(name)
    with (folder / "metrics.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert set(header) == documented(folder, tiny, "metrics.csv")
    assert all(find(key) for key in header)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_offline_wandb_run_has_the_keys_of_the_table_and_no_other(name: str, train: Callable[[str], Trained]):
    folder, tiny = train(name)
    (path,) = (folder / "wandb").glob("offline-run-*")
    offline = OfflineRun(path)
    logged = {key for row in offline.history for key in row if not key.startswith("_")}  # _step and such are W&B's own
    assert logged == documented(folder, tiny, "W&B")
    pictures = {key for row in offline.history for key, value in row.items() if isinstance(value, dict)}
    assert pictures == {key.pattern for key in KEYS if key.is_image and key.pattern in logged}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_wandb_run_has_its_configuration_group_tags_and_method(name: str, train: Callable[[str], Trained]):
    folder, tiny = train(name)
    (path,) = (folder / "wandb").glob("offline-run-*")
    offline, saved = OfflineRun(path), OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(saved, dict)
    assert set(offline.config) == {*saved, "data_set"}
    assert {key: offline.config[key] for key in config.TRAINING_KEYS} == {
        key: saved[key] for key in config.TRAINING_KEYS
    }
    assert "${" not in json.dumps(offline.config)
    grouped = [OmegaConf.select(OmegaConf.create(offline.config), field) for field in GROUPED_BY]
    assert grouped == ["tiny, rendered", "smoke", tiny.method]
    assert offline.config["method"] == Method.of_record(results.read(folder)["method"]).label
    assert offline.run.run_group == OmegaConf.load(folder / "config.yaml").sweep.name
    assert sorted(offline.run.tags) == ["one", "two"]
