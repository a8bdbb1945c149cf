"""Fig. 14: the traversals that the best run of every data set drew itself."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from deft_lightning.report import paper
from deft_lightning.report.figures._common import Plate, file_name
from deft_lightning.report.loading import Run
from deft_lightning.report.study import Study


def traversals(study: Study) -> list[Plate]:
    """The run of the highest MIG for every data set: of DEFT where there is one, else of any method."""
    if "mig" not in study.compared:
        return []
    plates = []
    for label in study.data:
        rows = study.compared[(study.compared["data"] == label) & study.compared["mig"].notna()]
        deft = rows[rows["method"] == "DEFT"]
        ranked = (deft if len(deft) else rows).sort_values("mig", ascending=False, kind="stable")
        for i in ranked.index[:1]:
            run = study.runs[i]
            caption = f"{label}: {paper.shown(run.method)}, seed {run.seed}, MIG {run.scores['mig']:.3f}"
            if picture := _picture(run, study.problems):
                plates.append(Plate(f"fig_14_{file_name(label)}", picture, caption))
    return plates


def _picture(run: Run, problems: list[str]) -> Path | None:
    """The PNG of the last stage's traversals, once it is known to be one."""
    pictures = run.stages[-1].get("pictures")
    name = pictures.get("traversals") if isinstance(pictures, dict) else None
    path = run.folder / str(name or f"figures/traversals_stage_{len(run.stages)}.png")
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        problems.append(f"{path} is no picture that can be read: the best run's traversals are left out of Fig. 14.")
        return None
    return path
