"""Read back the files of offline W&B runs."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def without_wandb(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Remove all W&B settings and API keys of this machine, and make `home` the home folder."""
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        patch.delenv(name)
    patch.setenv("HOME", str(home))


def _records(path: Path) -> Iterator[Any]:
    """The records of an offline run: protocol buffers in blocks of 32 KiB, as in LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record  # noqa: PLC0415  # slow to import

    data, position, parts = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:
            position += room  # a header is never split
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


class OfflineRun:
    """One session of an offline W&B run."""

    def __init__(self, folder: Path) -> None:
        (path,) = folder.glob("*.wandb")
        self.folder, self.history, self.exit_code = folder, [], None
        for record in _records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
            elif kind == "history":
                row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                self.history.append(_flat_images(row))
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    def column(self, key: str) -> dict[int, Any]:
        """The values logged under `key`, {training step: value}."""
        return {row["trainer/global_step"]: row[key] for row in self.history if key in row}

    @property
    def config(self) -> dict[str, Any]:
        return {item.key: json.loads(item.value_json) for item in self.run.config.update if item.key != "_wandb"}


def _flat_images(row: dict[str, Any]) -> dict[str, Any]:
    """Merge the items of an image, such as nmi/matrix/_type and nmi/matrix/filenames, into one."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        name, _, field = key.rpartition("/")
        if field in ("_type", "filenames", "count", "width", "height", "format", "captions"):
            flat.setdefault(name, {})[field] = value
        else:
            flat[key] = value
    return flat
