"""What a text that cites a study should say: the program, the runs with their digest, and the paper."""

from __future__ import annotations

import hashlib
from typing import Any

from deft_lightning.report.loading import Record
from deft_lightning.report.study import Study

BIBTEX = """@article{wu2021deft,
  title   = {{DEFT}: Distilling Entangled Factors},
  author  = {Wu, Jiantao and Wang, Lin and Liu, Chunxiuzi and Li, Fanqi},
  journal = {arXiv preprint arXiv:2102.03986},
  year    = {2021}
}"""
RULE = "find RUNS -name results.json -exec sha256sum {} + | cut -c 1-64 | sort | sha256sum"
"""The digest of the runs under RUNS, computed without this program."""


def digest(runs: list[Record]) -> str:
    """The SHA-256 of the sorted SHA-256 digests of all results.json files, one a line: `RULE`.

    It depends on the content of every file, and neither on their order nor on the names of folders.
    """
    lines = sorted(run.digest for run in runs)
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def citation(study: Study) -> dict[str, Any]:
    """What the block "How to cite this study" shows."""
    commits = sorted({commit[:10] for run in study.runs for commit in run.commits})
    versions = sorted({version for run in study.runs if (version := run.text("versions", "deft_lightning"))})
    return {
        "versions": versions,
        "commits": commits,
        "runs": len(study.runs),
        "digest": digest(study.runs),
        "rule": RULE,
        "bibtex": BIBTEX,
    }
