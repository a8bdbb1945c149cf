"""The runs as one table: which are compared, under which data set, at which swept value."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pandas as pd

from deft_lightning.report import paper
from deft_lightning.report.loading import Found, Run

NOT_SWEPT = ("seed", "data", "scale")
"""Parts of `training` that are no setting of a method: data and scale are told apart by the label of the data set."""
NO_VALUE = "none"
IMPLIED = ("groups.count",)
"""Settings that others decide: the number of groups is that of their latents, whether it is written down or not."""


class Study:
    """Everything that tables and figures ask of the runs.

    `compared` has one row for every finished run that counts, indexed by the run's place in `runs`: `data` (label of
    the data set), `dataset`, `method`, `value` (the swept settings, as text), `best` (whether that value has the
    highest mean MIG of its method and data set), and one column a score, NaN where the run has none.
    """

    def __init__(self, found: Found) -> None:
        self.runs, self.thresholds, self.problems = found.runs, found.thresholds, list(found.problems)
        self.labels = _data_labels([*found.runs, *found.thresholds])
        self.notices = [*self._mixtures(), *self._unfinished()]
        counted = self._counted()
        values = self._swept_values(counted)
        rows = {
            i: {
                "data": self.label(self.runs[i]),
                "dataset": self.runs[i].dataset,
                "method": self.runs[i].method,
                "value": values[i],
                **self.runs[i].scores,
            }
            for i in counted
        }
        self.compared = pd.DataFrame.from_dict(rows, orient="index")
        self.scores = paper.score_order({s for i in counted for s in self.runs[i].scores})
        self.methods = paper.method_order({self.runs[i].method for i in counted})
        present = {row["data"] for row in rows.values()}
        self.data = [label for label in dict.fromkeys(self.labels.values()) if label in present]
        if rows:
            self.compared["best"] = _best(self.compared)

    def label(self, run: Run) -> str:
        """The data set of a run as it is printed, with source and scale where the study mixes them."""
        return self.labels[_data_key(run)]

    def cells(self, score: str, best: bool = True) -> dict[tuple[str, str], pd.Series]:
        """The values of a score by (data set, method), at the best swept value or pooled over all; none is empty."""
        if score not in self.compared:
            return {}
        frame = self.compared[self.compared["best"]] if best else self.compared
        frame = frame[frame[score].notna()]
        groups = dict(iter(frame.groupby(["data", "method"])[score]))
        return {(d, m): groups[d, m] for d in self.data for m in self.methods if (d, m) in groups}

    def best_value(self, data: str, method: str) -> str:
        """The swept settings of the highest mean MIG; "" where nothing was swept."""
        frame = self.compared
        rows = frame[frame["best"] & (frame["data"] == data) & (frame["method"] == method)]
        return ", ".join(sorted(set(rows["value"])))

    def _counted(self) -> list[int]:
        """Runs of the study that no later run of the same configuration on the same data repeats."""
        latest: dict[Any, int] = {}
        for i, run in enumerate(self.runs):
            if not _of_the_study(run):
                continue
            key = (run.text("config_digest") or i, _data_key(run))
            if key not in latest or (run.text("started") or "") >= (self.runs[latest[key]].text("started") or ""):
                latest[key] = i
        if repeats := sum(map(_of_the_study, self.runs)) - len(latest):
            self.notices.append(
                f"{repeats} finished run{'s repeat' if repeats > 1 else ' repeats'} the configuration and the seed of "
                "another: the one started last counts."
            )
        return sorted(latest.values())

    def _mixtures(self) -> list[str]:
        sources, scales = _mixed([*self.runs, *self.thresholds])
        notices = []
        if sources:
            notices.append("The runs saw images of different sources: they are kept apart, the label says which.")
        if scales:
            notices.append("The runs took different parts of their schedules: they are kept apart, the label says how.")
        return notices

    def _unfinished(self) -> list[str]:
        kinds = Counter(run.status for run in self.runs if not run.finished)
        if not kinds:
            return []
        methods = Counter(run.method for run in self.runs if not run.finished)
        return [
            f"{kinds.total()} of {len(self.runs)} runs did not finish ({_counts(kinds)}) and count in no table or "
            f"distribution: {paper.shown(_counts(methods))}. The table of runs gives the reasons."
        ]

    def _swept_values(self, counted: list[int]) -> dict[int, str]:
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i in counted:
            groups[self.label(self.runs[i]), self.runs[i].method].append(i)
        values: dict[int, str] = {}
        for members in groups.values():
            settings = {i: _settings(self.runs[i]) for i in members}
            fields = list(dict.fromkeys(name for s in settings.values() for name in s if name not in IMPLIED))
            swept = [name for name in fields if len({settings[i].get(name, NO_VALUE) for i in members}) > 1]
            for i in members:
                values[i] = ", ".join(f"{name.split('.')[-1]} {settings[i].get(name, NO_VALUE)}" for name in swept)
        return values


def _of_the_study(run: Run) -> bool:
    """Whether a run is one of the study: it finished, was scored, and is no part of the gamma study."""
    return run.finished and bool(run.scores) and not run.name.startswith(paper.GAMMA_STUDY)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))


def _best(frame: pd.DataFrame) -> pd.Series:
    """Whether each row has the swept value of the highest mean MIG; all have where there is no MIG to choose by."""
    if "mig" not in frame:
        return pd.Series(True, index=frame.index)
    groups = ["data", "method"]
    means = frame.groupby([*groups, "value"])["mig"].transform("mean")
    highest = means.groupby([frame[g] for g in groups]).transform("max")
    winners = frame["value"].where(means == highest).groupby([frame[g] for g in groups]).transform("min")
    return highest.isna() | (frame["value"] == winners)


def _settings(run: Run) -> dict[str, str]:
    """The settings of a run's method, flat: dotted name to value as text."""
    training = {k: v for k, v in run.mapping("training").items() if k not in NOT_SWEPT}
    return dict(_flat(training, ""))


def _flat(part: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in part.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, as_text(value)


def as_text(value: Any) -> str:
    """A setting as text, in which 6 and 6.0 are the same."""
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return NO_VALUE if value is None else str(value)


def _data_key(run: Run) -> tuple[str, str, str]:
    return run.dataset, run.source, run.scale


def _data_labels(runs: list[Run]) -> dict[tuple[str, str, str], str]:
    """How each (data set, source, scale) is printed, the paper's data sets first."""
    known = list(paper.DATASETS)
    keys = {_data_key(run) for run in runs}
    sources, scales = _mixed(runs)
    labels = {}
    for key in sorted(keys, key=lambda k: (known.index(k[0]) if k[0] in known else len(known), k)):
        details = [key[1]] if sources else []
        details += [key[2]] if scales and key[2] else []
        name = paper.DATASETS.get(key[0], key[0])
        labels[key] = f"{name} ({', '.join(details)})" if details else name
    return labels


def _mixed(runs: list[Run]) -> tuple[bool, bool]:
    """Whether the images have different sources, between data sets or within one, and whether scales differ."""
    origins = {run.text("data", "source") for run in runs}
    within = {(run.dataset, run.source) for run in runs}
    sources = len(origins) > 1 or len(within) > len({run.dataset for run in runs})
    return sources, len({run.scale for run in runs if run.scale}) > 1
