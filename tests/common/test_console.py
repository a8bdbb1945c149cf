"""How errors are printed, and what happens when the reader of the output has gone."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from deft_lightning.common import console
from deft_lightning.common.errors import DeftError


def _raise(error: BaseException) -> int:
    raise error


@pytest.fixture(autouse=True)
def _restored_streams(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`run_command` wraps both streams."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))


def test_a_mistake_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run_command(lambda: _raise(DeftError("lr is -1: give a number above 0."))) == 1
    assert capsys.readouterr() == ("", "error: lr is -1: give a number above 0.\n")


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run_command(lambda: len((tmp_path / "missing").read_text())) == 1
    sentence = f"{tmp_path / 'missing'} cannot be used (No such file or directory): look at its path and permissions."
    assert capsys.readouterr() == ("", f"error: {sentence}\n")
    with pytest.raises(OSError, match="a bug"):
        console.run_command(lambda: _raise(OSError("a bug")))


def test_ctrl_c_is_one_line_and_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run_command(lambda: _raise(KeyboardInterrupt())) == 130
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == "error: interrupted.\n"
    assert errors.count("\n") == 1


def test_a_command_has_its_own_status_and_a_bug_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run_command(lambda: None) == 0
    assert console.run_command(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        console.run_command(lambda: 1 // 0)
    assert capsys.readouterr() == ("", "")


SCRIPT = """
import logging, pathlib, subprocess, sys
from deft_lightning.common import console

def main():
    for line in range(int(sys.argv[2])):
        print("step", line)
        logging.info("step %s", line)
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    sys.stdout.flush()
    pathlib.Path(sys.argv[1]).write_text("done")

{call}
"""


@pytest.mark.parametrize("lines", [1, 20_000])  # less and more than a buffer
@pytest.mark.parametrize("call", ["console.survive_closed_output(); main()", "sys.exit(console.run_command(main))"])
def test_a_process_whose_output_is_closed_runs_to_its_end(tmp_path: Path, call: str, lines: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    file = tmp_path / "file.txt"
    command = [sys.executable, "-c", SCRIPT.replace("{call}", call), str(file), str(lines)]
    try:
        done = subprocess.run(command, stdout=writer, stderr=writer, check=False)
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert file.read_text() == "done"


def test_a_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/deft_lightning/__main__.py", "data.path='my images.npz'", "lr=1"])
    words = ["data.path='my images.npz'", "lr=1"]
    for name in ("deft_lightning.__main__", "deft_lightning.evaluate"):
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name=name))
        assert shlex.split(console.command_line()) == ["python", "-m", name.removesuffix(".__main__"), *words]
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # of a console script
    assert shlex.split(console.command_line()) == ["/x/deft_lightning/__main__.py", *words]


def test_arguments_are_read_as_utf_8_in_every_locale() -> None:
    script = (
        "import sys; from deft_lightning.common import console; console.read_arguments(); print(ascii(sys.argv[1]))"
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    answer = subprocess.run([sys.executable, "-c", script, "größer"], env=environment, capture_output=True, check=True)
    assert answer.stdout.decode().strip() == ascii("größer")
