"""A file that is replaced holds the old content or the new, whatever happens in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deft_lightning.common import files


@pytest.mark.parametrize("concurrent", [False, True])
def test_readers_see_the_old_content_until_the_block_has_ended(tmp_path: Path, concurrent: bool) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with files.replaced(path, concurrent) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert (str(os.getpid()) in temporary.name) == concurrent
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_exception_the_old_content_is_there_and_no_temporary_file(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half() -> None:
        with files.replaced(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_made_and_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run" / "figures" / "file.txt"
    with files.replaced(path) as temporary:
        left_behind = temporary
        temporary.write_text("a long text from a process that was killed")
    path.rename(left_behind)
    with files.replaced(path) as temporary:
        assert temporary == left_behind
        temporary.write_text("short")
    assert path.read_text() == "short"
    assert list(path.parent.iterdir()) == [path]


def test_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    files.write_text(path, "old")

    def full_disk(self: Path, text: str, encoding: str | None = None) -> None:
        self.write_bytes(text[:1].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8_whatever_the_locale_is(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write = f"files.write_text(pathlib.Path({str(path)!r}), chr(946))"
    script = f"import pathlib; from deft_lightning.common import files; {write}"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert path.read_bytes() == "β".encode()
