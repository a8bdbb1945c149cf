"""The schedule that `python -m deft_lightning.thresholds propose` has written. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft_lightning.common.errors import DeftError
from deft_lightning.common.method import PAPER
from deft_lightning.model.schedules.base import Piecewise, Schedule, Timeline
from deft_lightning.thresholds import record


class Auto(Schedule):
    """The stages in a thresholds.json of kind "proposal"; `path` is the file or its folder.

    Raises `DeftError` when the file is missing, damaged, unfinished or of another kind.
    """

    def __init__(self, path: str | Path | None, fraction: float = 1.0) -> None:
        if path is None:
            raise DeftError("schedule.path is null: give the thresholds.json that holds the proposal.")
        content = record.read(path, "proposal")
        try:
            epochs, pressures = content["proposal"]["epochs"], content["proposal"]["pressures"]
        except (KeyError, TypeError) as error:
            raise DeftError(f"{path} is damaged (no proposal in it): measure the thresholds again.") from error
        self._piecewise = Piecewise(epochs, pressures, fraction)
        self._path, self._measured_on = path, content["data"]
        # Files of earlier versions name none: they had no other than the paper's.
        self._likelihood = content.get("settings", {}).get("likelihood", PAPER)
        self.fraction = fraction

    @property
    def stages(self) -> int:
        return self._piecewise.stages

    def without_files(self) -> Piecewise:
        return self._piecewise

    def timeline(self, steps_per_epoch: int) -> Timeline:
        return self._piecewise.timeline(steps_per_epoch)

    def check(self, data: Mapping[str, Any], likelihood: str) -> None:
        """Raise `DeftError` when the thresholds were measured on another data set, or with another likelihood."""
        if self._likelihood != likelihood:
            raise DeftError(
                f"{self._path} was measured with the likelihood {self._likelihood}, and this run trains with "
                f"{likelihood}: measure the thresholds with that, or choose another schedule."
            )
        compared = [("name", "data set"), ("images", "number of images"), ("shape", "shape")]
        if data["name"] == "custom" or data.get("source") == "torch Dataset":  # the names say little
            compared.append(("digest", "set of images"))
        for key, what in compared:
            measured = self._measured_on.get(key)
            if measured != data.get(key):
                raise DeftError(
                    f"{self._path} was measured on another {what} ({measured}) than this run trains on "
                    f"({data.get(key)}): measure the thresholds of these images, or choose another schedule."
                )

    def record(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """`fields` and the stages of the file, so that a run is not resumed under other stages."""
        stages = self._piecewise
        return {**fields, "epochs": list(stages.epochs), "pressures": list(stages.pressures)}
