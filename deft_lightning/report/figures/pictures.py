"""Fig. 14: for every data set, the picture of traversals that its best run saved."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from deft_lightning.report import paper
from deft_lightning.report.figures._common import Plate, file_name
from deft_lightning.report.loading import Record
from deft_lightning.report.study import Study


def traversals(study: Study) -> list[Plate]:
    """The run with the highest MIG on every data set, of DEFT where it was run, else of any method."""
    if "mig" not in study.compared:
        return []
    plates = []
    for label in study.data:
        rows = study.compared[(study.compared["data"] == label) & study.compared["mig"].notna()]
        deft = rows[rows["method"] == "DEFT"]
        ranked = (deft if len(deft) else rows).sort_values("mig", ascending=False, kind="stable")
        for i in ranked.index[:1]:
            run = study.runs[i]
            caption = f"{label}: {paper.shown(run.method.label)}, seed {run.seed}, MIG {run.scores['mig']:.3f}"
            if picture := _picture(run, study.problems):
                plates.append(Plate(f"fig_14_{file_name(label)}", picture, caption))
    return plates


def _picture(run: Record, problems: list[str]) -> Path | None:
    """The PNG of the last stage's traversals; None, and a problem, where it cannot be read."""
    pictures = run.stages[-1].get("pictures")
    name = pictures.get("traversals") if isinstance(pictures, dict) else None
    path = run.folder / str(name or f"figures/traversals_stage_{max(run.numbered_stages)}.png")
    try:
        with Image.open(path) as image:
            image.load()
    except Exception:  # what Pillow raises for damaged files has no common type
        problems.append(f"{path} is missing or damaged: Fig. 14 leaves out the traversals of the best run.")
        return None
    return path
