"""The notebook runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.mark.acceptance  # trains, in a kernel of its own
def test_every_cell_runs(notebook, tmp_path: Path, dsprites_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer steps: what the cells do is the same."""
    (tmp_path / "deft_lightning").symlink_to(dsprites_root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # of the user, on Linux
    for cell in notebook.cells:
        cell.source = cell.source.replace("max_steps=1_500", "max_steps=40")
    assert any("max_steps=40" in cell.source for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)
    assert code[-1].outputs[-1].data["text/plain"] == "True"  # the loaded model is the trained one
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2


def test_it_is_shown_as_it_was_run(notebook) -> None:
    """Every code cell was executed, in order, and the committed outputs hold no error."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)
    assert NOTEBOOK.stat().st_size < 500_000
