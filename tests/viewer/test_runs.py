"""The runs that are found, and what is loaded of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from deft_lightning import DeftError, load_model, load_run
from deft_lightning.common import results
from deft_lightning.evaluation.codes import encode
from deft_lightning.viewer.runs import Library, find_runs

pytestmark = pytest.mark.slow  # trains a run


def test_runs_are_named_by_their_place_below_what_they_share(folder: Path) -> None:
    runs = find_runs([folder])
    assert list(runs) == ["one", "two"]
    assert runs["one"].stages == (1, 2, 3, 4)
    assert list(find_runs([folder / "two", folder / "one"])) == ["one", "two"]
    assert list(find_runs([folder / "two"])) == ["two"]


def test_a_folder_without_a_checkpoint_is_left_out(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "one", tmp_path / "good")
    results.update(tmp_path / "begun", status="starting")
    assert list(find_runs([tmp_path])) == ["good"]
    with pytest.raises(DeftError, match=r"there is no run with a checkpoint in .*begun: give run folders"):
        find_runs([tmp_path / "begun"])


def test_weights_are_those_of_the_run_and_the_stage(folder: Path) -> None:
    library = Library(find_runs([folder]), trust=True)
    for name, stage in (("one", None), ("one", 1), ("two", None)):
        expected = load_model(folder / name, stage).state_dict()
        found = library.subject(name, stage).model.state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert library.subject("one", None) is library.subject("one", None)


def test_kl_is_measured_on_the_data_with_these_weights(folder: Path) -> None:
    model, data = load_run(folder / "one", 2, trust=True)
    expected = encode(model, data, data.sample(96)).kl
    assert np.allclose(Library(find_runs([folder]), trust=True).subject("one", 2).kl, expected)


def test_runs_on_the_same_images_share_them(folder: Path) -> None:
    library = Library(find_runs([folder]), trust=True)
    first, second = (library.subject(name, None).data for name in ("one", "two"))
    assert first is not None
    assert second is not None
    assert first.dataset is second.dataset


def test_models_of_data_that_were_dropped_are_dropped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model kept for the next click would keep its data set in memory, besides the two that are kept."""
    library = Library(find_runs([folder]), trust=True)
    first, same = library.subject("one", None), library.subject("one", 1)
    assert library.subject("one", 1) is same
    monkeypatch.setattr(library, "_datasets", {})  # two others were looked at
    library.subject("two", None)
    assert library.subject("one", None) is not first
    assert library.subject("two", None) is library.subject("two", None)


def test_without_the_data_a_run_can_be_looked_at_and_says_why(folder: Path) -> None:
    """The data of these runs are of a class from outside the package; the KL is that of results.json then."""
    subject = Library(find_runs([folder])).subject("one", 3)
    assert subject.data is None
    assert "is not part of deft_lightning" in subject.problem
    assert subject.kl.tolist() == results.read(folder / "one")["stages"]["stage_3"]["kl_per_latent"]


def test_without_data_and_measurement_the_kl_is_unknown(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder / "one", tmp_path / "run"))
    (copy / results.FILE).write_text('{"status": "running"}')
    assert np.isposinf(Library(find_runs([copy])).subject("run", None).kl).all()
