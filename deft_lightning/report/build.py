"""From paths to a report: load the records, draw all plates, write all tables, put them on one page."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import rich

from deft_lightning.common.console import new_progress
from deft_lightning.common.errors import DeftError
from deft_lightning.report import latex as latex_tables
from deft_lightning.report import page, paired, tables
from deft_lightning.report.baseline import differences, lines
from deft_lightning.report.figures import FIGURES, PaperFigure, Plate, save
from deft_lightning.report.loading import load
from deft_lightning.report.study import Study

log = logging.getLogger(__name__)


class Report(NamedTuple):
    """A report that was written: its page, and one line for every difference from the baseline."""

    page: Path
    differences: list[str]


def write(
    paths: Sequence[str | Path],
    out: str | Path = "report",
    baseline: Sequence[str | Path] = (),
    latex: bool = False,
) -> Report:
    """Write index.html, figures/ and tables/ into `out` from the runs under `paths`.

    Every score is compared with that of the runs under `baseline`, where there are such paths. With `latex`, the
    tables of a paper are also written as LaTeX.

    Raises `DeftError` when there are no runs, or when `out` cannot be written.
    """
    study = Study(load(paths))
    before = Study(load(baseline)) if baseline else None
    out = Path(out)
    try:
        for folder in (out / "figures", out / "tables"):
            folder.mkdir(parents=True, exist_ok=True)
        planned = [(figure, plate) for figure in FIGURES for plate in _plan(study, figure)]
        workers = max(1, min(os.cpu_count() or 1, len(planned)))
        # Figures are full of reference cycles: collecting them takes a tenth of the time, and the workers end soon.
        with ProcessPoolExecutor(workers, initializer=gc.disable) as pool:
            waiting = [(figure, plate, pool.submit(save, plate, out / "figures")) for figure, plate in planned]
            made = [
                tables.settings(study), tables.failures(study), tables.summary(study), paired.paired(study),
                tables.comparisons(study),
                tables.udr(study), tables.proposals(study), tables.runs(study, out.resolve()),
            ]  # fmt: skip
            if before:
                made.append(differences(study, before))
            plates = _collect(study, waiting)
        by_key = {table.key: table for table in made}
        for table in made:
            table.write(out / "tables")
        if latex:
            latex_tables.write(study, by_key, out / "tables")
        said = lines(by_key["baseline"]) if before else []
        return Report(page.write(study, plates, by_key, out, latex), said)
    except OSError as error:
        raise DeftError(f"the report cannot be written into {out} ({error}): choose a folder with --out.") from error


def _collect(study: Study, waiting: Sequence[tuple[PaperFigure, Plate, Future[None]]]) -> dict[str, list[Plate]]:
    """The plates that were saved, by the number of their figure; the others become problems of the study."""
    drawn: dict[str, list[Plate]] = {figure.number: [] for figure in FIGURES}
    # In a pipe the output of the command is the path of the page and nothing else.
    with new_progress(transient=True, disable=not rich.get_console().is_terminal) as progress:
        for figure, plate, outcome in progress.track(waiting, description="Figures"):
            error = outcome.exception()
            if isinstance(error, OSError):
                raise error
            if error is None:
                drawn[figure.number].append(plate)
            else:
                _leave_out(study, figure, error)
    return drawn


def _plan(study: Study, figure: PaperFigure) -> list[Plate]:
    plates = []
    for part in figure.parts:
        try:
            plates += part(study)
        except Exception as error:  # one unexpected record must not prevent the page
            _leave_out(study, figure, error)
    return plates


def _leave_out(study: Study, figure: PaperFigure, error: BaseException) -> None:
    problem = f"A part of {figure.number} cannot be drawn and is left out ({type(error).__name__}: {error})."
    log.warning(problem, exc_info=log.isEnabledFor(logging.DEBUG))
    study.problems.append(problem)
