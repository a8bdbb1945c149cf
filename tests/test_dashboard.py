"""The dashboard's specification, checked without W&B, and what is sent to a stand-in for the W&B server."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deft_lightning import dashboard
from deft_lightning.training.logged_keys import KEYS, find
from tests.offline_run import without_wandb

pytest.importorskip("wandb_workspaces")

PAGE = "/team/study"


def specification() -> dict[str, Any]:
    """The sections as they are sent to the server."""
    return json.loads(dashboard.workspace("team", "study")._to_model().spec.model_dump_json(by_alias=True))["section"]


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return specification()


def sections(spec: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {section["name"]: section["panels"] for section in spec["panelBankConfig"]["sections"]}


def shown(panels: list[dict[str, Any]]) -> set[str]:
    """The patterns of the keys that panels show; fails for a key or an expression that is not in `KEYS`."""
    patterns = set()
    families = {key.regex: key.pattern for key in KEYS if key.is_family}
    for panel in panels:
        settings = panel["config"]
        regex = settings.get("metricRegex")
        patterns |= {families[regex]} if regex else set()
        for name in [*(settings.get("metrics") or []), *(settings.get("mediaKeys") or [])]:
            row = find(name)
            assert row is not None, name
            patterns.add(row.pattern)
    return patterns


def test_every_key_but_axes_has_a_panel_and_no_panel_another_key(spec: dict[str, Any]) -> None:
    every = {pattern for panels in sections(spec).values() for pattern in shown(panels)}
    assert every == {key.pattern for key in KEYS} - set(dashboard.WITHOUT_PANEL)


def test_scores_are_compared_by_method_data_set_and_scale(spec: dict[str, Any]) -> None:
    """Runs are grouped by fields of the W&B configuration; the bar of a group is its mean, with the deviation."""
    (runs,) = spec["runSets"]
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [
        ("config", "data_set.value"),
        ("config", "scale.value.name"),
        ("config", "method.value"),
    ]
    assert spec["settings"]["useRunsTableGroupingInPanels"]
    bars = sections(spec)["Scores by method"]
    assert {panel["viewType"] for panel in bars} == {"Bar Chart"}
    assert {(panel["config"]["groupAgg"], panel["config"]["groupArea"]) for panel in bars} == {("mean", "stddev")}
    assert shown(bars) == {key.pattern for key in KEYS if key.pattern.startswith("score/")}


def test_lines_run_over_training_steps(spec: dict[str, Any]) -> None:
    lines = [p for panels in sections(spec).values() for p in panels if p["viewType"] == "Run History Line Plot"]
    assert {panel["config"]["xAxis"] for panel in lines} == {"trainer/global_step"}
    latents = [panel for panel in lines if panel["config"]["chartTitle"] == "train/kl/latent_<latent>"]
    (regex,) = (panel["config"]["metricRegex"] for panel in latents)
    keys = ["train/kl/latent_00", "train/kl/latent_09", "train/kl", "train/kl/latent", "nmi/latent_00/posX"]
    assert [key for key in keys if re.search(regex, key)] == keys[:2]
    assert latents[0]["config"]["useMetricRegex"]


def test_pictures_are_laid_out_by_step_and_run(spec: dict[str, Any]) -> None:
    browsers = {
        name: media
        for name, panels in sections(spec).items()
        if (media := [panel for panel in panels if panel["viewType"] == "Media Browser"])
    }
    assert {name: shown(media) for name, media in browsers.items()} == {
        "NMI of latents and factors": {"nmi/matrix"},
        "Traversals": {"traversals", "reconstructions"},
        "Information thresholds": {"thresholds/anneal"},
    }
    for panel in (panel for media in browsers.values() for panel in media):
        assert panel["config"]["gridSettings"] == {"xAxis": "step", "yAxis": "run"}


def test_the_specification_is_one_that_the_library_reads_back() -> None:
    from wandb_workspaces.workspaces import Workspace  # noqa: PLC0415  # slow to import

    made = dashboard.workspace("team", "study")
    again = Workspace._from_model(made._to_model())
    assert again._to_model().spec.model_dump() == made._to_model().spec.model_dump()
    assert (again.entity, again.project, again.name) == ("team", "study", dashboard.NAME)


# --- the command ---


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    assert dashboard.main(["--entity", "team", "--project", "study"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "wandb_workspaces" else find_spec(name)
    )
    assert sentence(capsys) == "error: wandb-workspaces is not installed: pip install 'deft-lightning[dashboard]'.\n"


def test_without_an_api_key_it_says_so_and_asks_no_server(tmp_path, monkeypatch, capsys) -> None:
    without_wandb(monkeypatch, tmp_path)
    monkeypatch.setattr(dashboard.requests, "get", lambda *_, **__: pytest.fail("asked a server"))
    assert sentence(capsys) == "error: no W&B API key is configured: run wandb login, or set WANDB_API_KEY.\n"


def test_a_server_out_of_reach_is_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    without_wandb(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the port that discards; nothing listens
    assert sentence(capsys) == (
        "error: the W&B server http://127.0.0.1:9 cannot be reached (ConnectionError): check the network, or "
        "WANDB_BASE_URL.\n"
    )


class StandIn(BaseHTTPRequestHandler):
    """Answers as the W&B server does to a user with an account, who may not write to the project "locked"."""

    workspaces: list[dict[str, Any]]
    """What it was sent and accepted."""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/graphql":  # telemetry
            self._answer({})
            return
        request = json.loads(body)
        if "upsertView" not in request["query"]:
            user = {"id": "user", "entity": "team", "username": "user", "flags": "{}", "teams": {"edges": []}}
            self._answer({"data": {"viewer": user}})
        elif request["variables"]["projectName"] == "locked":
            self._answer({"data": None, "errors": [{"message": "permission denied"}]})
        else:
            self.workspaces.append(request["variables"])
            view = {"id": "1", "name": "nw-abc-v"}
            self._answer({"data": {"upsertView": {"view": view, "inserted": True}}})

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


TWICE = """
import runpy, sys
for project in ("study", "locked"):
    sys.argv = ["dashboard", "--entity", "team", "--project", project]
    try:
        runpy.run_module("deft_lightning.dashboard", run_name="__main__")
    except SystemExit as stop:
        print("status", stop.code)
"""


# Slow: starts Python and wandb's own process. W&B keeps the server it was first used with, so this needs a process.
@pytest.mark.slow
def test_the_workspace_is_sent_and_its_address_printed_and_a_refusal_is_one_sentence(tmp_path: Path) -> None:
    handler = type("Handler", (StandIn,), {"workspaces": []})
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        address = f"http://127.0.0.1:{http.server_port}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        done = subprocess.run(
            [sys.executable, "-c", TWICE],
            env=inherited | {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        http.shutdown()
    assert done.stdout.splitlines() == [f"{address}{PAGE}?nw=abc", "status 0", "status 1"], done.stderr
    (sent,) = handler.workspaces
    assert (sent["entityName"], sent["projectName"], sent["displayName"]) == ("team", "study", "DEFT study")
    ours = sections(specification())
    received = sections(json.loads(sent["spec"])["section"])
    assert {name: shown(panels) for name, panels in received.items()} == {n: shown(p) for n, p in ours.items()}
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {address} refused the workspace (")
    assert "permission denied" in line
    assert line.endswith("check the API key, and that it may write to the project team/locked.")
