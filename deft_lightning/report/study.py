"""The runs as one table: which of them are compared, on which data, and at which swept value."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from deft_lightning.common.method import Method
from deft_lightning.report import paper, swept
from deft_lightning.report.loading import Record, Records

NOT_OF_IMAGES = ("name", "source", "held_out")
"""Fields of `training.data` that are part of `DataKey` by themselves."""


class DataKey(NamedTuple):
    """What keeps runs apart besides their method: no table or figure pools or compares runs that differ in it.

    `code` is that of the data set if it is not from this package (module:name, else ""); `images` is what tells images
    of one name and source apart, see `_images`.
    """

    dataset: str
    code: str
    source: str
    scale: str
    precision: str
    images: str


class Study:
    """Everything that tables and figures need to know about the runs.

    `compared` has one row for every finished run that counts, indexed by the run's place in `runs`: `data` (label of
    the data set), `dataset`, `method` (its label), `value` (the swept settings, as text), `best` (whether that value
    has the highest mean MIG of its method and data set), and one column a score, NaN where the run has none.
    `ended` has the same columns, and rows for diverged runs too, which `diverged` marks: they have no scores, count as
    failures, and enter the mean MIG of their value as 0.
    `methods` are their labels in the order in which they are shown, each with its `Method`.
    """

    def __init__(self, records: Records) -> None:
        self.runs, self.thresholds, self.problems = records.runs, records.thresholds, list(records.problems)
        self.labels = _data_labels([*records.runs, *records.thresholds])
        self.notices = [*self._mixtures(), *self._unfinished()]
        counted = self._counted()
        values = self._swept_values(counted)
        rows = {i: self._row(self.runs[i], values[i]) for i in counted}
        self.ended = pd.DataFrame.from_dict(rows, orient="index")
        self.scores = paper.score_order({s for i in counted if self.runs[i].finished for s in self.runs[i].scores})
        methods: dict[str, Method] = {}
        for method in (self.runs[i].method for i in counted):
            if method.label not in methods or method.is_deft:  # codes from elsewhere may be called DEFT as well
                methods[method.label] = method
        self.methods = {label: methods[label] for label in paper.method_order(set(methods))}
        present = {row["data"] for row in rows.values()}
        self.data = [label for label in dict.fromkeys(self.labels.values()) if label in present]
        if rows:
            self.ended["best"] = _best(self.ended)
        self.compared = self.ended[~self.ended["diverged"]].drop(columns="diverged") if rows else self.ended
        self._lengths = self._unequal_lengths()
        self.notices += [_on_lengths(data, lengths) for data, lengths in self._lengths.items()]
        self.notices += [*self._starts(), *self._estimators()]

    def label(self, run: Record) -> str:
        """The name of a run's data set as it is printed, with the fields of its `DataKey` that differ between runs."""
        return self.labels[data_key(run)]

    def cells(self, score: str, best: bool = True) -> dict[tuple[str, str], pd.Series]:
        """The values of a score by (data set, method), at the best swept value or pooled over all; none is empty."""
        if score not in self.compared:
            return {}
        frame = self.compared[self.compared["best"]] if best else self.compared
        frame = frame[frame[score].notna()]
        groups = dict(iter(frame.groupby(["data", "method"])[score]))
        return {(d, m): groups[d, m] for d in self.data for m in self.methods if (d, m) in groups}

    def best_value(self, data: str, method: str) -> str:
        """The swept settings with the highest mean MIG; "" where nothing was swept."""
        frame = self.compared
        rows = frame[frame["best"] & (frame["data"] == data) & (frame["method"] == method)]
        return ", ".join(sorted(set(rows["value"])))

    def outcomes(self, best: bool = True) -> dict[tuple[str, str], pd.DataFrame]:
        """The rows of `ended` that have a MIG or diverged, by (data set, method), at the best value or pooled."""
        if not len(self.ended) or not self.data:
            return {}
        frame = self.ended[self.ended["best"]] if best else self.ended
        frame = frame[frame["diverged"] | (frame["mig"].notna() if "mig" in frame else False)]
        groups = dict(iter(frame.groupby(["data", "method"])))
        return {(d, m): groups[d, m] for d in self.data for m in self.methods if (d, m) in groups}

    def length(self, data: str, method: str) -> str:
        """How long a method was trained, "264,960 steps"; "" where all methods on that data are equally long."""
        return self._lengths.get(data, {}).get(method, "")

    def shown(self, data: str, method: str) -> str:
        """The label of a method as tables print it, with its length where that is not the same for all methods."""
        length = self.length(data, method)
        return f"{paper.shown(method)} ({length})" if length else paper.shown(method)

    def _row(self, run: Record, value: str) -> dict[str, Any]:
        row = {
            "data": self.label(run),
            "dataset": run.dataset,
            "method": run.method.label,
            "value": value,
            "diverged": run.diverged,
        }
        return row | (run.scores if run.finished else {})

    def _unequal_lengths(self) -> dict[str, dict[str, str]]:
        """How long each method was trained, at all swept values, for data sets on which that differs."""
        if not len(self.ended):
            return {}
        steps: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        for i, row in self.ended.iterrows():
            if length := self.runs[i].length:
                steps[row["data"]][row["method"]].add(length)
        return {
            data: {m: _steps(steps[data][m]) for m in self.methods if m in steps[data]}
            for data in self.data
            if len(set().union(*steps[data].values())) > 1
        }

    def _counted(self) -> list[int]:
        """The runs that count; of several runs with the same configuration on the same data, only the latest."""
        latest: dict[Any, int] = {}
        for i, run in enumerate(self.runs):
            if not _counts_as_run(run):
                continue
            key = (run.text("config_digest") or i, data_key(run))
            if key not in latest or (run.text("started") or "") >= (self.runs[latest[key]].text("started") or ""):
                latest[key] = i
        if repeats := sum(map(_counts_as_run, self.runs)) - len(latest):
            self.notices.append(
                f"{repeats} finished run{'s repeat' if repeats > 1 else ' repeats'} the configuration and the seed of "
                "another run: only the one that was started last counts."
            )
        return sorted(latest.values())

    def _mixtures(self) -> list[str]:
        mixed = _mixed([*self.runs, *self.thresholds])
        sentences = {
            "source": "The images come from different sources. The report keeps them apart and names the source.",
            "scale": "The runs were trained for different fractions of their schedules. The report keeps them apart "
            "and names the fraction.",
            "precision": "The runs were trained in different precisions. The report keeps them apart and names the "
            "precision.",
            "images": "Data sets of one name have different images. The report keeps them apart and names their file, "
            "folder, settings or digest.",
        }
        return [sentence for field, sentence in sentences.items() if field in mixed]

    def _starts(self) -> list[str]:
        """A sentence about runs that differ in nothing but the run that they start from."""
        if not len(self.ended):
            return []
        seeds = self.ended.index.map(lambda i: self.runs[i].seed)
        alike = self.ended.assign(seed=seeds).dropna(subset="seed").groupby(["data", "method", "value", "seed"]).size()
        if not (count := int(alike[alike > 1].sum())):
            return []
        return [
            f"{count} runs share method, settings and seed, and start from different runs (init_from). They are "
            "pooled: give each start a method name of its own (method=...), or a report of its own."
        ]

    def _estimators(self) -> list[str]:
        """A sentence about DCI scores of different estimators."""
        used = {self.runs[i].stages[-1].get("dci_estimator") for i in self.compared.index if self.runs[i].stages}
        if len(used := {name for name in used if name}) < 2:
            return []
        return [
            f"DCI was computed by different estimators ({', '.join(sorted(used))}), whose scores cannot be compared: "
            "report the runs of each by themselves where DCI matters."
        ]

    def _unfinished(self) -> list[str]:
        """One sentence about the runs that diverged, and one about the others that did not finish."""
        diverged = [run for run in self.runs if run.diverged]
        others = [run for run in self.runs if not run.finished and not run.diverged]
        statuses = _counts(Counter(run.status for run in others))
        notices = []
        for runs, what, counted in (
            (others, f"did not finish ({statuses})", "No table or distribution of scores includes them"),
            (
                diverged,
                "diverged: the loss or the weights were no longer finite",
                "They count as failures in Table 2, and no other table or distribution of scores includes them",
            ),
        ):
            methods = _counts(Counter(run.method.label for run in runs))
            if runs:
                notices.append(
                    f"{len(runs)} of {len(self.runs)} runs {what}. {counted} ({paper.shown(methods)}); the table of "
                    "runs shows the reasons."
                )
        return notices

    def _swept_values(self, counted: list[int]) -> dict[int, str]:
        groups: dict[tuple[str, str], dict[int, Record]] = defaultdict(dict)
        for i in counted:
            groups[self.label(self.runs[i]), self.runs[i].method.label][i] = self.runs[i]
        return {i: value for runs in groups.values() for i, value in swept.values(runs).items()}


def _counts_as_run(run: Record) -> bool:
    """Whether a run has final scores, or diverged on data with labels, and stands by itself."""
    ended = bool(run.scores) if run.finished else run.diverged and bool(run.value("data", "factors"))
    return ended and not paper.is_part(run.name)


def _steps(lengths: set[int]) -> str:
    low, high = min(lengths), max(lengths)
    return f"{low:,} steps" if low == high else f"{low:,} to {high:,} steps"


def _on_lengths(data: str, lengths: Mapping[str, str]) -> str:
    named = "; ".join(f"{paper.shown(method)} {steps}" for method, steps in lengths.items())
    return f"The runs on {data} were trained for different numbers of steps, which the tables name: {named}."


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))


def _best(frame: pd.DataFrame) -> pd.Series:
    """Whether each row has the swept value with the highest mean MIG, in which a run that diverged has a MIG of 0.

    True for all where there is no MIG.
    """
    if "mig" not in frame:
        return pd.Series(True, index=frame.index)
    groups = ["data", "method"]
    means = frame["mig"].mask(frame["diverged"], 0).groupby([frame[g] for g in (*groups, "value")]).transform("mean")
    highest = means.groupby([frame[g] for g in groups]).transform("max")
    winners = frame["value"].where(means == highest).groupby([frame[g] for g in groups]).transform("min")
    return highest.isna() | (frame["value"] == winners)


def data_key(run: Record) -> DataKey:
    """The data set of a run with what else keeps it apart."""
    name = run.text("training", "data", "name") or ""
    code = name if ":" in name else ""
    return DataKey(run.dataset, code, run.source, run.scale, run.text("precision") or "", _images(run))


def _images(run: Record) -> str:
    """What tells images of one name and source apart: their digest, or the settings of a data set that has none."""
    if digest := run.text("data", "digest"):
        background = run.text("data", "background_digest")
        return f"{digest}, {background} background" if background else digest
    settings = run.mapping("training", "data").items()
    return ", ".join(f"{k} {swept.as_text(v)}" for k, v in settings if k not in NOT_OF_IMAGES and v is not None)


def _data_labels(runs: list[Record]) -> dict[DataKey, str]:
    """How each data key is printed, the paper's data sets first."""
    order = list(paper.DATASETS)
    keys = {data_key(run): run for run in runs}
    mixed = _mixed(runs)
    labels = {}
    for key in sorted(keys, key=lambda k: (order.index(k.dataset) if k.dataset in order else len(order), k)):
        of_one_name = [other for other in keys if other.dataset == key.dataset]
        details = [key.code] if key.code and any(other.code != key.code for other in of_one_name) else []
        details += [getattr(key, field) for field in ("source", "scale", "precision") if field in mixed]
        alike = [keys[other] for other in of_one_name if other.code == key.code and other.source == key.source]
        details += [_images_name(keys[key], alike)] if len({_images(run) for run in alike} - {""}) > 1 else []
        name = paper.DATASETS.get(key.dataset, key.dataset)
        shown = ", ".join(filter(None, details))
        labels[key] = f"{name} ({shown})" if shown else name
    return labels


def _images_name(run: Record, alike: Sequence[Record]) -> str:
    """How the images of a run are told from those of `alike`: by the name of their file or folder, if that suffices."""
    named = {(Path(path).name, _images(other)) for other in alike if (path := other.text("data", "path"))}
    path = run.text("data", "path")
    if path and len([name for name, _ in named if name == Path(path).name]) == 1:
        return Path(path).name
    return f"digest {_images(run)}" if run.text("data", "digest") else _images(run)


def _mixed(runs: list[Record]) -> set[str]:
    """The fields of `DataKey` that differ between runs and are named in every label, and "images" where those do.

    Sources differ between data sets or within one.
    """
    keys = {data_key(run) for run in runs}
    origins = {run.text("data", "source") for run in runs}
    within = {(key.dataset, key.source) for key in keys}
    mixed = {"source"} if len(origins) > 1 or len(within) > len({key.dataset for key in keys}) else set()
    mixed |= {field for field in ("scale", "precision") if len({getattr(key, field) for key in keys} - {""}) > 1}
    images = {(key.dataset, key.code, key.source, key.images) for key in keys if key.images}
    return mixed | ({"images"} if len(images) > len({image[:3] for image in images}) else set())
