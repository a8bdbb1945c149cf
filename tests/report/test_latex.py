"""LaTeX tables are well formed, and bold only where the difference is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from deft_lightning.report import latex, paired, tables
from deft_lightning.report.study import Study
from deft_lightning.report.table import table_of
from tests.report.test_study import scored, study_of


def written(study: Study, folder: Path) -> dict[str, str]:
    made = [tables.settings(study), tables.failures(study), paired.paired(study)]
    latex.write(study, {table.key: table for table in made}, folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.tex")}


def columns_of(row: str) -> int:
    """How many columns a row spans."""
    cells = re.split(r"(?<!\\)&", row)
    spans = [re.search(r"\\multicolumn\{(\d+)\}", cell) for cell in cells]
    return sum(int(span[1]) if span else 1 for span in spans)


def check(text: str) -> None:
    """Environments and braces are balanced, rules are there once, and every row has as many cells as columns."""
    opened: list[str] = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    plain = re.sub(r"\\[{}$\\]", "", text)
    depth = 0
    for character in plain:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert plain.count("$") % 2 == 0
    lines = text.splitlines()
    places = [lines.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert places == sorted(places)
    assert (text.count(r"\toprule"), text.count(r"\bottomrule")) == (1, 1)
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert columns
    rows = [line for line in lines[places[0] : places[2]] if not line.endswith("rule")]
    assert all(row.endswith(r" \\") and row.count(r"\\") == 1 for row in rows)
    assert {columns_of(row) for row in rows} == {len(columns[1])}
    for special in "%#&_":  # a comment at the start and the separators of cells aside
        outside = "\n".join(lines[1:]).replace(" & ", "")
        assert not re.search(rf"(?<!\\){special}", outside), special


def test_tables_of_a_study_are_well_formed(study: Study, tmp_path: Path) -> None:
    texts = written(study, tmp_path)
    assert texts.keys() == {"table_1_settings", "table_2_failures", "scores", "paired"}
    for text in texts.values():
        check(text)
    assert r"$\beta$-VAE" in texts["scores"]
    assert re.search(r"\d\.\d+ \[\d\.\d+, \d\.\d+\]", texts["scores"])
    assert "Failed without them" in texts["table_2_failures"]  # one run of the study diverged


def test_names_cannot_break_a_table(tmp_path: Path) -> None:
    runs = [scored(0.3, method=r"*[a]_b & 50% \of {x}$^~#", dataset="dsprites", seed=seed) for seed in (0, 1)]
    texts = written(study_of(tmp_path, *runs, *(scored(0.3, seed=seed) for seed in (0, 1))), tmp_path)
    for text in texts.values():
        check(text)
    named = r"{*}{[}a{]}\_b \& 50\% \textbackslash{}of \{x\}\$\textasciicircum{}\textasciitilde{}\#"
    assert named in texts["scores"]


@pytest.mark.parametrize(("spread", "bold"), [(0.0, True), (0.3, False)])
def test_the_best_is_bold_only_where_the_paired_interval_excludes_0(tmp_path: Path, spread: float, bold: bool) -> None:
    """DEFT is 0.05 better on average; with alternating differences of 0.3 that shows nothing."""
    runs = [scored(0.3 + 0.1 * s, seed=s) for s in range(4)]
    runs += [scored(0.25 + 0.1 * s + spread * (-1) ** s, method="beta-VAE", seed=s) for s in range(4)]
    text = written(study_of(tmp_path, *runs), tmp_path)["scores"]
    check(text)
    assert (r"\textbf{0.450}" in text) == bold
    assert text.count(r"\textbf") == bold


def test_bold_needs_a_difference_from_every_other_method(tmp_path: Path) -> None:
    """A third method without common seeds leaves nothing to say."""
    values = {"a": {0: 0.5, 1: 0.6}, "b": {0: 0.1, 1: 0.2}}
    assert paired.leader(values) == "a"
    assert paired.leader(values, paired.is_lower) == "b"
    assert paired.leader({**values, "c": {7: 0.0, 8: 0.0}}) is None
    assert paired.leader({"a": values["a"]}) is None


@pytest.mark.parametrize(("seeds", "bold"), [(2, False), (5, False), (6, True)])
def test_the_lowest_failure_rate_is_bold_only_where_an_exact_test_shows_it(
    tmp_path: Path, seeds: int, bold: bool
) -> None:
    """Every seed of beta-VAE fails and none of DEFT: by chance so, or the other way round, in 2 of 2^n studies."""
    runs = [scored(m, method=name, seed=s) for s in range(seeds) for name, m in (("DEFT", 0.3), ("beta-VAE", 0.05))]
    text = written(study_of(tmp_path, *runs), tmp_path)["table_2_failures"]
    assert (rf"DEFT & {seeds} & \textbf{{0.0}}" in text) == bold == (2 / 2**seeds < 0.05)


def test_an_empty_table_is_well_formed() -> None:
    text = latex._plain(table_of("paired", pd.DataFrame(columns=["Data", "A"])), "None.", by="Data")
    assert r"\begin{tabular}{l}" in text
