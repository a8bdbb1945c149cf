"""The tables of README and docs/reproduction.md: ours beside the paper's, and what was not run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from deft_lightning.report import paper
from deft_lightning.report.committed import BETA_VAE, Group, groups, markdown, median
from deft_lightning.report.loading import Record
from deft_lightning.report.positions import Alignment, decided
from deft_lightning.report.reproduction_pairs import pair_table, schedule_seeds, schedule_table
from deft_lightning.report.statistics import wilson
from deft_lightning.report.table import as_number

NOT_RUN = "not run"
SEVERAL_GROUPS = "beta-VAE, 2 groups"


@dataclass(frozen=True)
class Section:
    """A table or figure of the paper: which runs belong to it, and what the paper says.

    `row` is that of `make reproduce` which trains the runs. `methods` are labels, which stand for every setting of the
    method, or have a setting in brackets. A figure has a `claim` instead of numbers.
    """

    title: str
    row: str
    dataset: str
    methods: tuple[str, ...]
    claim: str = ""


SECTIONS = {
    **{
        f"table 2 {name.replace('_', ' ')}": Section(
            f"Table 2, {paper.DATASETS[name]}",
            f"table2_{name.removesuffix('_dsprites')}",
            name,
            paper.TABLE_2_COLUMNS,
        )
        for name in paper.FAILURE_RATES
    },
    "fig 10": Section(
        "Fig. 10, one encoder under piecewise pressures", "fig10", "dsprites", (paper.NORMAL_ENCODER, "DEFT"),
        "in ten runs, MIG is average in the first stage and spreads in the following ones",
    ),
    "fig 11": Section(
        "Fig. 11, two encoder groups under a constant pressure", "fig11", "dsprites", (SEVERAL_GROUPS, BETA_VAE),
        "in forty runs at beta 6, MIG with two encoders is lower than with one",
    ),
    "fig 13": Section(
        "Fig. 13, DEFT (TC)", "fig13", "dsprites", ("DEFT (TC)", "DEFT", BETA_VAE),
        "MIG of DEFT and of DEFT (TC) is high in all runs",
    ),
}  # fmt: skip
"""By the name of their table in the pages."""

CURVES = {
    "fig2": "Fig. 2, leakage over training",
    "fig5": "Fig. 5, gamma",
    "fig12": "Fig. 12, the parts of the KL",
}
"""Rows of `make reproduce` whose figures show curves, which committed results do not have."""
FEWEST = 3
"""Runs from which a failure rate is worth a row in README."""
SCORES = (*paper.MAIN_SCORES, "reconstruction")


def section_table(section: Section, runs: Sequence[Record]) -> str:
    """One table or figure of the paper: every method with its runs, or as not run, and the commands."""
    rows, commands = [], []
    for method in section.methods:
        published = paper.failure_rate(method, section.dataset)
        rate = "" if published is None or section.claim else f"{published:g}%"
        mine = [group for group in _of(section, runs) if method in (group.label, group.method)]
        if not mine:
            rows.append([paper.shown(method), "", "", "", "0", NOT_RUN, rate, "", "", ""])
        for group in mine:
            rows.append(
                [paper.shown(group.method), group.steps, group.source, group.arithmetic, str(group.count),
                 group.failures, rate, median(group.scores("mig")), _by_stage(group), group.commits]
            )  # fmt: skip
            commands.append(group.command() or f"make reproduce ROW={section.row} SEEDS={len(group.runs)}")
    columns = ["method", "steps", "images", "precision", "runs", "MIG below 0.1 (95%)", "the paper's",
               "median MIG (95%)", "median MIG by stage", "commit"]  # fmt: skip
    text = markdown(columns, rows)
    if section.claim:
        text = f"The paper: {section.claim}.\n\n{text}"
    if commands:
        text += "\n\n```bash\n" + "\n".join(dict.fromkeys(commands)) + "\n```"
    return text


def failure_table(runs: Sequence[Record]) -> str:
    """Failure rates of the methods in the paper's Table 2 with three runs or more, for the first screen of README."""
    columns = ["data", "method", "steps", "precision", "runs", "MIG below 0.1 (95%)", "the paper's", "median MIG (95%)"]
    rows = []
    for group in groups(runs):
        if group.label not in paper.TABLE_2_COLUMNS or group.count < FEWEST:
            continue
        published = paper.failure_rate(group.label, group.dataset)
        rows.append(
            [group.images, paper.shown(group.method), group.steps, group.arithmetic, str(group.count), group.failures,
             "" if published is None else f"{published:g}%", median(group.scores("mig"))]
        )  # fmt: skip
    return markdown(columns, rows)


def stage_table(runs: Sequence[Record]) -> str:
    """MIG at the end of every stage, by seed, and how posX and posY were learnt."""
    rows = []
    for group in groups(runs):
        for run in group.runs:
            migs = [run.stage_scores(stage).get("mig") for stage in run.numbered_stages]
            text = ", ".join("" if mig is None else f"{mig:.3f}" for mig in migs)
            rows.append(
                [group.images, paper.shown(group.method), group.steps, group.arithmetic, str(run.seed),
                 f"{text}, diverged".removeprefix(", ") if run.diverged else text, _positions(run, len(migs) > 1)]
            )  # fmt: skip
    columns = ["data", "method", "steps", "precision", "seed", "MIG at the end of each stage", "posX and posY"]
    return markdown(columns, rows)


def positions_table(runs: Sequence[Record]) -> str:
    """How often posX and posY were learnt rotated by about 45 degrees, since which stage, and the MIG of either."""
    rows = []
    for group in groups(runs):
        ends = [(run, end) for run in group.runs if run.finished and (end := decided(run))]
        rotated = [(run, end) for run, end in ends if end.alignment == Alignment.ROTATED]
        separate = [(run, end) for run, end in ends if end.alignment == Alignment.SEPARATE]
        if not (learnt := len(rotated) + len(separate)):
            continue
        low, high = wilson(len(rotated), learnt)
        since = Counter(end.stage for _, end in rotated) if group.stages > 1 else Counter()
        migs = [[run.scores["mig"] for run, _ in part if "mig" in run.scores] for part in (rotated, separate)]
        rows.append(
            [group.images, paper.shown(group.method), group.steps, group.arithmetic,
             f"{len(rotated)} of {learnt} ({100 * low:.0f} to {100 * high:.0f}%)",
             ", ".join(f"stage {stage}: {count}" for stage, count in sorted(since.items())), *map(median, migs)]
        )  # fmt: skip
    columns = ["data", "method", "steps", "precision", "rotated, of those learnt (95%)", "rotated since",
               "median MIG, rotated", "median MIG, separate"]  # fmt: skip
    return markdown(columns, rows)


def stage_medians(runs: Sequence[Record]) -> str:
    """Fig. 8: the median MIG of DEFT at the end of every stage, with intervals."""
    rows = []
    for name in paper.FAILURE_RATES:
        mine = [group for group in groups(runs) if (group.dataset, group.label) == (name, "DEFT")]
        if not mine:
            rows.append([paper.DATASETS[name], "", "", "0", NOT_RUN])
        for group in mine:
            medians = [median(group.scores("mig", stage)) for stage in range(1, group.stages + 1)]
            rows.append([group.images, group.steps, group.arithmetic, str(group.count), ", ".join(medians)])
    return markdown(["data", "steps", "precision", "runs", "median MIG at the end of each stage (95%)"], rows)


def score_table(runs: Sequence[Record]) -> str:
    """Figs. 7 and 9: medians of the usual scores and of the reconstruction error, where runs have them."""
    made = groups(runs)
    there = [score for score in SCORES if any(group.scores(score) for group in made)]
    rows = [
        [group.images, paper.shown(group.method), group.steps, group.arithmetic, str(len(group.scores("mig"))),
         *(median(group.scores(score), as_number) for score in there)]
        for group in made
    ]  # fmt: skip
    columns = ["data", "method", "steps", "precision", "finished runs", *map(paper.score_label, there)]
    return markdown(columns, rows)


def coverage(runs: Sequence[Record]) -> str:
    """What was run of every table and figure of the paper that `make reproduce` knows."""
    rows = []
    for section in SECTIONS.values():
        of_section = _of(section, runs)
        there = [name for name in section.methods if any(name in (group.label, group.method) for group in of_section)]
        missing = [method for method in section.methods if method not in there]
        rows.append(
            [section.title, f"`ROW={section.row}`", str(sum(group.count for group in of_section)),
             ", ".join(dict.fromkeys(group.steps for group in of_section)),
             "; ".join(map(paper.shown, there)), "; ".join(map(paper.shown, missing))]
        )  # fmt: skip
    for row, title in CURVES.items():
        count = sum(run.name.startswith(f"{row}_") for run in runs)
        rows.append([title, f"`ROW={row}`", str(count), "", "", "" if count else "all"])
    return markdown(["the paper's", "`make reproduce`", "runs", "steps", "methods run", NOT_RUN], rows)


def origin(runs: Sequence[Record]) -> str:
    """Commits, libraries and machines of the runs."""
    commits = sorted({commit[:10] for run in runs for commit in run.commits or ["unknown"]})
    versions = sorted({run.text("versions", "torch") or "unknown" for run in runs})
    hours = sum(run.number("timings", "train_seconds") or 0 for run in runs) / 3600
    return (
        f"{len(runs)} runs of commit {', '.join(commits)} with torch {', '.join(versions)}; {hours:.1f} hours of "
        "training, several runs at once."
    )


TABLES: dict[str, Callable[[Sequence[Record]], str]] = {
    "failure rates": failure_table,
    "stages": stage_table,
    "positions": positions_table,
    "pairs": pair_table,
    "schedules": schedule_table,
    "schedules by seed": schedule_seeds,
    "fig 8": stage_medians,
    "scores": score_table,
    "coverage": coverage,
    "origin": origin,
    **{name: partial(section_table, section) for name, section in SECTIONS.items()},
}
"""By the names between the marks of the pages."""


def _of(section: Section, runs: Sequence[Record]) -> list[Group]:
    """The runs of a table or figure."""
    there, wanted = groups(runs), set(section.methods)
    return [group for group in there if group.dataset == section.dataset and wanted & {group.label, group.method}]


def _by_stage(group: Group) -> str:
    if group.stages < 2:
        return ""
    return ", ".join(median(group.scores("mig", stage)).partition(" ")[0] for stage in range(1, group.stages + 1))


def _positions(run: Record, staged: bool) -> str:
    end = decided(run)
    if end is None or run.diverged:
        return ""
    if end.alignment == Alignment.NOT_LEARNT or not staged:
        return str(end.alignment)
    return f"{end.alignment} since stage {end.stage}"
