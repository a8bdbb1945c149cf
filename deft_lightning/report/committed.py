"""The committed runs in groups of equal settings, and what a table says of each group."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deft_lightning.report import paper, swept
from deft_lightning.report.loading import Record
from deft_lightning.report.statistics import bootstrap, wilson

ENOUGH = 5
"""Values from which on a median has a bootstrap interval."""
PARAMETERS = {
    "beta_vae": ("schedule.pressure", "beta"),
    "annealed_vae": ("schedule.c_max", "C"),
    "factor_vae": ("objective.gamma", "gamma"),
    "dip_vae_i": ("objective.lambda_od", "lambda"),
    "dip_vae_ii": ("objective.lambda_od", "lambda"),
    "beta_tcvae": ("objective.beta", "beta"),
}
"""The setting that is always named, of methods with one encoder group and one stage, and its symbol."""
BETA_VAE = "beta-VAE (beta 6)"
"""The method with its setting of the beta-VAE in the paper's figures."""
BOOKKEEPING = ("sweep.", "hydra.", "hydra/")
"""Overrides that change no number of a run."""

Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone, sorted by seed.

    `steps` is their length, with the fraction of the schedule; `method` the label of the method with its setting.
    """

    data: str
    source: str
    steps: str
    method: str
    arithmetic: str
    runs: tuple[Record, ...]

    @property
    def label(self) -> str:
        """The method without its setting."""
        return self.runs[0].method.label

    @property
    def dataset(self) -> str:
        """Short name of the data set."""
        return self.runs[0].dataset

    @property
    def images(self) -> str:
        """The data set and where its images are from."""
        return f"{self.data}, {self.source}"

    @property
    def commits(self) -> str:
        """The commits of the runs."""
        return ", ".join(sorted({commit[:8] for run in self.runs for commit in run.commits or ["unknown"]}))

    @property
    def failures(self) -> str:
        """How many runs failed, with Wilson's interval, and the other reading where some diverged."""
        migs, diverged = self.scores("mig"), sum(run.diverged for run in self.runs)
        failed = sum(value < paper.FAILED_BELOW for value in migs)
        text = _rate(failed + diverged, len(migs) + diverged)
        if diverged:
            text += f", {diverged} diverged" + (f"; without: {_rate(failed, len(migs))}" if migs else "")
        return text

    @property
    def count(self) -> int:
        """The runs that finished with a MIG or diverged."""
        return len(self.scores("mig")) + sum(run.diverged for run in self.runs)

    @property
    def stages(self) -> int:
        """Stages of the runs that finished; 0 where none did."""
        return max((max(run.numbered_stages, default=0) for run in self.runs if run.finished), default=0)

    def scores(self, score: str, stage: int | None = None) -> list[float]:
        """A score of the runs that finished at the end of a stage, numbered from 1; by default of the last."""
        finished = [run for run in self.runs if run.finished]
        values = [(run.scores if stage is None else run.stage_scores(stage)).get(score) for run in finished]
        return [value for value in values if value is not None]

    def command(self) -> str | None:
        """The command that trains these runs, from the overrides of their jobs; None where they were not in a sweep."""
        overrides: dict[str, list[str]] = {}
        for run in self.runs:
            for override in run.value("sweep", "overrides") or []:
                key, _, value = str(override).partition("=")
                if not key.startswith(BOOKKEEPING) and value not in overrides.setdefault(key, []):
                    overrides[key].append(value)
        if not overrides:
            return None
        words = [shlex.quote(f"{key}={','.join(values)}") for key, values in overrides.items()]
        return " ".join(["python -m deft_lightning --multirun", *words])


def groups(runs: Sequence[Record]) -> list[Group]:
    """The runs by data set, source, length, method with its setting, precision and threads, in the order of tables.

    Runs that are part of others, see `paper.is_part`, are in no group.
    """
    alike: dict[Key, list[Record]] = defaultdict(list)
    for run in runs:
        if paper.is_part(run.name):
            continue
        data = paper.DATASETS.get(run.dataset, run.dataset)
        alike[data, run.source, _steps(run), run.method.label, _arithmetic(run)].append(run)
    made = []
    for (data, source, steps, label, arithmetic), members in alike.items():
        varied = swept.fields(members)
        by_setting: dict[str, list[Record]] = defaultdict(list)
        for run in members:
            by_setting[_setting(run, varied)].append(run)
        for setting, same in by_setting.items():
            method = f"{label} ({setting})" if setting else label
            ordered = tuple(sorted(same, key=lambda run: run.seed or 0))
            made.append(Group(data, source, steps, method, arithmetic, ordered))
    datasets, methods = list(paper.DATASETS.values()), paper.method_order({group.label for group in made})
    return sorted(
        made,
        key=lambda group: (
            datasets.index(group.data) if group.data in datasets else len(datasets), group.data, group.source,
            group.runs[0].length or 0, methods.index(group.label), *_natural(group.method), group.arithmetic,
        ),
    )  # fmt: skip


def median(values: Sequence[float], form: Callable[[float], str] = "{:.3f}".format) -> str:
    """The median, with its bootstrap interval from `ENOUGH` values on; "" for none."""
    if not values:
        return ""
    text = form(float(np.median(values)))
    if len(values) < ENOUGH:
        return text
    low, high = bootstrap(values, np.median)
    return f"{text} ({form(low)} to {form(high)})"


def _rate(failed: int, count: int) -> str:
    if not count:
        return "0 of 0"
    low, high = wilson(failed, count)
    return f"{failed} of {count} ({100 * low:.0f} to {100 * high:.0f}%)"


def _steps(run: Record) -> str:
    """The length in steps, and the fraction of the schedule: "15,898 (6%)"."""
    scale = run.scale.removesuffix(" of the steps").removesuffix(" schedule") or "unknown scale"
    return f"{run.length:,} ({scale})" if run.length else scale


def _setting(run: Record, varied: Sequence[str]) -> str:
    """The setting that names the method's strength, stages that are not those of Table 1, and what else differs."""
    path, symbol = PARAMETERS.get(run.text("training", "objective", "name") or "", ("", ""))
    value = run.value("training", *path.split(".")) if path else None
    named = [] if value is None else [f"{symbol} {swept.as_text(value)}"]
    published, schedule = paper.table_1().get(run.dataset, {}), run.mapping("training", "schedule")
    staged = ("epochs", "pressures") if isinstance(schedule.get("pressures"), list) else ()
    stages = [f"schedule.{key}" for key in staged if schedule.get(key) != published.get(key)]
    others = [field for field in dict.fromkeys([*stages, *varied]) if value is None or field != path]
    return ", ".join([*named, swept.value(run, others)] if others else named)


def _arithmetic(run: Record) -> str:
    threads = run.value("threads")
    precision = run.text("precision") or "unknown"
    return f"{precision}, {threads} thread{'' if threads == 1 else 's'}" if run.text("device") == "cpu" else precision


def _natural(text: str) -> tuple[str, float]:
    """The text before the first number, and that number: beta 6 before beta 16."""
    name, _, setting = text.partition(" (")
    words = setting.rstrip(")").replace(",", " ").split()
    numbers = [float(word) for word in words if word.replace(".", "", 1).isdecimal()]
    return name, numbers[0] if numbers else 0.0


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(line) + " |" for line in (columns, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(columns), *lines[1:]])
