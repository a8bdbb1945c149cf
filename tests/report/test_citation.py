"""The digest is that of the files, in any order and place, and can be computed with standard tools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deft_lightning.report import citation
from deft_lightning.report.loading import load
from deft_lightning.report.study import Study
from tests.docs.pages import ROOT
from tests.report import factory
from tests.report.test_study import scored


def test_the_digest_does_not_depend_on_order_or_folders(tmp_path: Path) -> None:
    contents = [scored(0.1 * seed, seed=seed) for seed in range(4)]
    for place, content in enumerate(contents):
        factory.write(tmp_path / "a" / str(place), content)
        factory.write(tmp_path / "b" / f"run{9 - place}" / "deep", content)
    first, second = (citation.digest(load([tmp_path / name]).runs) for name in "ab")
    assert first == second
    factory.write(tmp_path / "b" / "run9" / "deep", scored(0.7, seed=0))
    assert citation.digest(load([tmp_path / "b"]).runs) != first
    shutil.rmtree(tmp_path / "a" / "0")
    assert citation.digest(load([tmp_path / "a"]).runs) != first


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
def test_the_rule_gives_the_digest(tmp_path: Path) -> None:
    for seed in range(3):
        factory.write(tmp_path / str(seed), scored(0.1, seed=seed))
    rule = citation.RULE.replace("RUNS", str(tmp_path))
    printed = subprocess.run(["bash", "-c", rule], capture_output=True, text=True, check=True).stdout
    assert printed.split()[0] == citation.digest(load([tmp_path]).runs)


def test_what_is_cited(study: Study) -> None:
    shown = citation.citation(study)
    assert (shown["versions"], shown["commits"], shown["runs"]) == (["0.1.0"], ["0123456789"], len(study.runs))
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in cited["authors"])
    bibtex = citation.BIBTEX.replace("{", "").replace("}", "")
    assert all(part in bibtex for part in (authors, cited["title"], cited["journal"], str(cited["year"])))
