"""The page is complete, needs no network, is safe, and shows no error in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from deft_lightning.common.conf import config_folder
from deft_lightning.report import citation
from deft_lightning.report import page as page_module
from deft_lightning.report.__main__ import main
from deft_lightning.report.build import write
from deft_lightning.report.figures import FIGURES, PaperFigure, Plate
from deft_lightning.report.study import Study
from tests.report import factory
from tests.report.test_study import scored

pytestmark = pytest.mark.slow  # builds whole reports

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the page without scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


@pytest.fixture(scope="module")
def elements(page: Path) -> Elements:
    return Elements(page.read_text())


def test_every_figure_and_table_is_a_file(page: Path, study: Study) -> None:
    keys = {plate.key for figure in FIGURES for part in figure.parts for plate in part(study)}
    for ending in ("png", "pdf"):
        assert {path.stem for path in (page.parent / "figures").glob(f"*.{ending}")} == keys
    for key in keys:
        with Image.open(page.parent / "figures" / f"{key}.png") as image:
            image.load()
        assert (page.parent / "figures" / f"{key}.pdf").read_bytes().startswith(b"%PDF")
    tables = {"table_1_settings", "table_2_failures", "scores", "paired", "comparisons", "udr", "proposals", "runs"}
    for ending in ("csv", "md"):
        assert {path.stem for path in (page.parent / "tables").glob(f"*.{ending}")} == tables


@pytest.mark.parametrize("number", [f.number for f in FIGURES])
def test_nothing_is_cut_off(study: Study, page: Path, number: str) -> None:
    """The outermost pixels of every figure are white."""
    figure = next(f for f in FIGURES if f.number == number)
    for plate in [plate for part in figure.parts for plate in part(study)]:
        if isinstance(plate.picture, Path):
            continue
        pixels = np.asarray(Image.open(page.parent / "figures" / f"{plate.key}.png").convert("L"))
        for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
            assert edge.min() > 250, plate.key
        assert pixels.min() < 100


def test_the_page_needs_nothing_but_itself(page: Path, elements: Elements) -> None:
    """Pictures are inlined; links lead to files of the report or run folders; nothing is fetched."""
    for tag, attributes in elements.tags:
        if source := attributes.get("src"):
            assert source.startswith("data:image/png;base64,"), (tag, source[:80])
        link = attributes.get("href")
        if link and not link.startswith(("#", "data:")):
            assert (page.parent / unquote(link)).exists(), link
    html = page.read_text()
    assert "default-src 'none'" in html
    assert not re.search(r"https?://|@import|url\(", html)


def test_links_within_the_page_lead_somewhere(elements: Elements) -> None:
    places = {attributes["id"] for _, attributes in elements.tags if attributes.get("id")}
    targets = {link[1:] for _, attributes in elements.tags if (link := attributes.get("href") or "").startswith("#")}
    assert targets == {"overview", *(section.key for section in page_module.SECTIONS)}
    assert targets <= places


def test_every_picture_says_what_it_is(elements: Elements) -> None:
    pictures = [attributes for tag, attributes in elements.tags if tag == "img"]
    assert len(pictures) > 20
    assert all(attributes["alt"] for attributes in pictures)


def test_every_figure_has_its_place(elements: Elements) -> None:
    placed = [number for section in page_module.SECTIONS for number in section.figures]
    assert sorted(placed) == sorted(figure.number for figure in FIGURES)
    for number in placed:
        assert f"{number}. " in elements.text


def test_what_was_left_out_is_on_the_page(elements: Elements) -> None:
    assert re.search(r"cut.results\.json cannot be read", elements.text)
    assert "schema version 99" in elements.text
    assert "before the first release are left out (1 of 60)" in elements.text
    assert "did not finish (1 failed)" in elements.text
    assert "1 of 54 runs diverged" in elements.text


def test_failure_rates_are_shown_with_and_without_runs_that_diverged(elements: Elements) -> None:
    part = elements.text.partition("With and without the runs that diverged")[2].partition("Scores")[0]
    cells = [line.strip() for line in part.splitlines() if line.strip()]
    assert "β-VAE" in "".join(cells)
    assert "DEFT" not in "".join(cells)  # of which no run diverged


def test_the_runs_show_speed_memory_precision_and_device(elements: Elements) -> None:
    head, _, rows = elements.text.partition("Images/s")[2].partition("Folder")
    assert [name for name in ("Memory (MB)", "Precision", "Device") if name in head] == [
        "Memory (MB)",
        "Precision",
        "Device",
    ]
    assert "4,4801,23432-truecpu, 2 threads" in rows


def test_the_page_says_how_to_cite_the_study(elements: Elements, study: Study) -> None:
    assert f"{len(study.runs)} runs, SHA-256 {citation.digest(study.runs)}" in elements.text
    assert citation.BIBTEX in elements.text
    assert f"deft_lightning {study.runs[0].text('versions', 'deft_lightning')}, commit 0123456789" in elements.text


def test_text_of_a_run_is_no_code_of_the_page(page: Path, elements: Elements) -> None:
    assert "<script>alert(1)</script>" in elements.text
    assert "&lt;script&gt;alert(1)" in page.read_text()
    assert sum(tag == "script" for tag, _ in elements.tags) == 1


def test_a_figure_without_runs_says_what_to_run(tmp_path: Path) -> None:
    factory.write(tmp_path / "run", scored(0.3, status="running"))
    text = Elements(write([tmp_path / "run"], tmp_path / "report").page.read_text()).text
    for figure in FIGURES:
        assert figure.command in text
    assert not list((tmp_path / "report" / "figures").iterdir())


def test_what_to_run_is_there_to_be_run() -> None:
    """The experiments that the commands name are in conf/."""
    names = [
        name for f in FIGURES for listed in re.findall(r"\+experiment=(\S+)", f.command) for name in listed.split(",")
    ]
    assert "fig5_gamma" in names
    assert [name for name in names if not (config_folder() / "experiment" / f"{name}.yaml").is_file()] == []


def test_scores_may_be_missing(tmp_path: Path) -> None:
    """No labels, no history, no pictures, no versions: the rest is shown."""
    bare = {"status": "finished", "name": "mine", "stages": {"stage_1": {"scores": {"reconstruction": 12.5}}}}
    factory.write(tmp_path / "a", bare)
    factory.write(tmp_path / "b", {"schema_version": 2})
    html = write([tmp_path], tmp_path / "report").page.read_text()
    assert "12.5" in html
    assert (tmp_path / "report" / "figures" / "fig_09_reconstruction.png").exists()


def test_one_figure_that_cannot_be_drawn_does_not_cost_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def plan(study: Study) -> list[Plate]:
        return [Plate("broken", _broken), *FIGURES[0].parts[0](study)]

    def no_plan(study: Study) -> list[Plate]:
        raise KeyError("mig")

    monkeypatch.setattr(
        "deft_lightning.report.build.FIGURES",
        [
            *(PaperFigure(f.number, f.title, f.caption, f.command, ()) for f in FIGURES[2:]),
            PaperFigure(FIGURES[0].number, "", "", "", (plan,)),
            PaperFigure(FIGURES[1].number, "", "", "", (no_plan,)),
        ],
    )
    factory.write(tmp_path / "run", scored(0.3))
    html = write([tmp_path / "run"], tmp_path / "report").page.read_text()
    assert f"{FIGURES[0].number} cannot be drawn and is left out (ValueError: no such shape)" in html
    assert f"{FIGURES[1].number} cannot be drawn" in caplog.text
    assert (tmp_path / "report" / "figures" / "table_2_failures.png").exists()


def _broken() -> None:
    raise ValueError("no such shape")


def test_the_same_runs_give_the_same_report(tmp_path: Path) -> None:
    for seed in (0, 1):
        factory.write(tmp_path / "runs" / str(seed), scored(0.3, seed=seed))
    first = write([tmp_path / "runs"], tmp_path / "report").page
    files = [first, *(tmp_path / "report" / "tables").iterdir(), *(tmp_path / "report" / "figures").iterdir()]
    before = {path: path.read_bytes() for path in files}
    write([tmp_path / "runs"], tmp_path / "report")
    assert [path.name for path in files if path.read_bytes() != before[path]] == []


def test_the_command_line_without_torch(tmp_path: Path) -> None:
    """The page is written by a process in which torch was never imported."""
    factory.write(tmp_path / "sweep" / "0", scored(0.3))
    script = (
        "import sys; from deft_lightning.report.__main__ import main; status = main(sys.argv[1:]);"
        "assert not {'torch', 'pytorch_lightning', 'wandb'} & set(sys.modules), 'torch was imported';"
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", script, "sweep"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{Path('report', 'index.html')}\n"
    assert (tmp_path / "report" / "index.html").is_file()


@pytest.mark.parametrize("path", ["nothing-here", "multirun_outputs/*"])
def test_nothing_found_is_one_line_and_exit_1(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / path), "--out", str(tmp_path / "report")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert path in lines[0]
    assert not (tmp_path / "report").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    factory.write(tmp_path / "run", scored(0.3))
    (tmp_path / "report").write_text("a file")
    assert main([str(tmp_path / "run"), "--out", str(tmp_path / "report")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line
    assert (tmp_path / "report").read_text() == "a file"


PROBE = """<script>
addEventListener("load", () => {
  const rows = () => [...document.querySelectorAll("#run-list tbody tr")].filter((row) => !row.hidden);
  const column = (name) => [...document.querySelectorAll("#run-list th")].findIndex((th) => th.textContent === name);
  const cells = (name) => rows().map((row) => row.cells[column(name)].textContent);
  const sort = (name) => document.querySelectorAll("#run-list th button")[column(name)].click();
  const words = document.getElementById("run-words"), status = document.getElementById("run-status");
  const type = (text) => { words.value = text; words.dispatchEvent(new Event("input")); };
  const choose = (text) => { status.value = text; status.dispatchEvent(new Event("change")); };
  const seen = { all: rows().length };
  sort("MIG"); seen.up = cells("MIG");
  sort("MIG"); seen.down = cells("MIG");
  sort("Method"); seen.methods = cells("Method");
  type("SCREAM deft "); seen.filtered = rows().length;
  seen.count = document.getElementById("run-count").textContent;
  type(""); choose("failed"); seen.failed = cells("Status");
  seen.broken = [...document.images].filter((image) => !image.complete || !image.naturalWidth).length;
  seen.wide = document.documentElement.scrollWidth > innerWidth;
  const out = document.createElement("pre");
  out.id = "probe"; out.textContent = JSON.stringify(seen); document.body.append(out);
});
</script>"""


@pytest.mark.acceptance
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1400, 500])
def test_the_page_in_a_browser(page: Path, study: Study, tmp_path: Path, width: int) -> None:
    """No error in the console; every picture shows; the table of runs sorts and filters; nothing sticks out."""
    probed = page.with_name(f"probed_{width}.html")
    probed.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--no-first-run", *quiet, f"--user-data-dir={tmp_path}",
        f"--window-size={width},1000", "--enable-logging=stderr", "--dump-dom", probed.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    probed.unlink()
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    probe = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert probe, done.stdout[-2000:]
    seen = json.loads(probe.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert seen["all"] == len(study.runs)
    numbers = [float(x) for x in seen["up"] if x != "—"]
    assert numbers == sorted(numbers)
    assert [float(x) for x in seen["down"] if x != "—"] == numbers[::-1]
    assert seen["up"][-1] == seen["down"][-1] == "—"  # the run without a MIG is last either way
    assert len(set(seen["methods"])) == 1 + sum(a != b for a, b in pairwise(seen["methods"]))  # each method together
    wanted = [run for run in study.runs if run.method.label == "DEFT" and run.dataset == "scream_dsprites"]
    assert seen["filtered"] == len(wanted)
    assert seen["count"] == f"{len(wanted)} of {len(study.runs)} runs"
    assert [status[:6] for status in seen["failed"]] == ["failed"]
    assert seen["broken"] == 0
    assert not seen["wide"]
