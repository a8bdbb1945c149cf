"""The schedule that `python -m deft_lightning.thresholds propose` wrote. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft_lightning.common.errors import DeftError
from deft_lightning.model.schedules.base import Piecewise
from deft_lightning.thresholds import record as file


class Auto(Piecewise):
    """Stages from a thresholds.json of kind "proposal".

    Raises `DeftError` when the file is missing, damaged, unfinished or of another kind.
    """

    def __init__(self, path: str | Path, fraction: float = 1.0) -> None:
        content = file.read(path, "proposal")
        try:
            epochs, pressures = content["proposal"]["epochs"], content["proposal"]["pressures"]
        except (KeyError, TypeError) as error:
            raise DeftError(f"{path} is damaged (no proposal in it): measure the thresholds again.") from error
        super().__init__(epochs, pressures, fraction)
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "measured_on", content["data"])

    def check(self, data: Mapping[str, Any]) -> None:
        """Refuse thresholds that were measured on another data set."""
        compared = [("name", "data set"), ("images", "number of images"), ("shape", "shape")]
        if data["name"] == "custom":  # as every set of the user's own is called
            compared.append(("digest", "set of images"))
        for key, what in compared:
            measured = self.measured_on.get(key)  # type: ignore[attr-defined]
            if measured != data.get(key):
                raise DeftError(
                    f"{self.path} was measured on another {what} ({measured}) than this run trains on "  # type: ignore[attr-defined]
                    f"({data.get(key)}): measure the thresholds of these images, or choose another schedule."
                )

    def record(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """With the stages of the file, so that a run is not resumed under others."""
        return {**fields, "epochs": list(self.epochs), "pressures": list(self.pressures)}


def auto(
    fraction: float = 1.0, epochs: object = None, pressures: object = None, pressure: object = None, **source: Any
) -> Auto:
    """`Auto` from a configuration, whose field `from` names the file; `from` is no name for a Python argument.

    An experiment sets `epochs` and `pressures`, or `pressure`, for a schedule of its own; on top of one they are
    there and without effect.
    """
    path = source.pop("from", None)
    if source:
        raise DeftError(
            f"schedule.{next(iter(source))} is not a field of schedule=auto: its fields are from, fraction."
        )
    if path is None:
        raise DeftError("schedule.from should say where the thresholds.json is that holds the proposal.")
    return Auto(path, fraction)
