"""README and documentation: every command is parsed and composed, every Python block runs, every name exists."""

from __future__ import annotations

import argparse
import re
import runpy
import sys
import tomllib
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from deft_lightning.common.conf import config_folder
from deft_lightning.data import cache, registry
from deft_lightning.launch import job  # noqa: F401  # registers the resolvers of conf/
from deft_lightning.training import config, run
from tests.docs.pages import PAGES, ROOT, Command, blocks, commands
from tests.helpers import PLAIN, compose_run
from tests.report import factory

NEEDS = {"account", "cluster", "download"}
RUN = "outputs/color_dsprites/example"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, with a proposed schedule where the pages' placeholder says that there is one."""
    monkeypatch.chdir(tmp_path)
    factory.write(tmp_path / "example", factory.proposal("color_dsprites"), name="thresholds.json")
    return tmp_path


@pytest.mark.slow  # composes every command of the docs
@pytest.mark.parametrize("command", commands(), ids=lambda command: command.place)
def test_command(command: Command, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    makefile = (ROOT / "Makefile").read_text()
    match command.words:
        case ["make", target, *variables]:
            assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)
            assert all(f"$({variable.partition('=')[0]})" in makefile for variable in variables)
        case ["source", path]:
            assert path == ".venv/bin/activate"
            assert "VENV := .venv\n" in makefile
        case ["pip", "install", requirement]:
            assert re.fullmatch(r"deft-lightning\[(\w+)\]", requirement)[1] in PROJECT["optional-dependencies"]
        case ["wandb", "sync", _]:
            assert command.needs == "account"
        case ["python", "-m", "pytest", path]:
            assert (ROOT / path).exists()
        case ["python", "-m", "deft_lightning.thresholds" as program, "later", *arguments]:
            _parsed(monkeypatch, program, ["later", *arguments])
        case ["python", "-m", ("deft_lightning" | "deft_lightning.thresholds") as program, *arguments]:
            assert (command.needs == "cluster") == any("slurm" in word or "ray" in word for word in arguments)
            _check_run(program, arguments)
        case ["python", "-m", program, *arguments]:
            _check_options(program, _parsed(monkeypatch, program, arguments), command.needs)
        case ["python", path, *arguments]:
            _parsed(monkeypatch, path, arguments)
        case _:
            pytest.fail("this test does not know such a command: teach it, or write another")


def _check_options(program: str, options: argparse.Namespace, needs: str | None) -> None:
    """What a program of the package could only find out by running."""
    match program.removeprefix("deft_lightning."):
        case "data":
            download = options.command == "prepare"
            assert options.name in (registry.DOWNLOADS if download else registry.DATASETS)
            assert (needs == "download") == download
        case "evaluate":
            overrides = [word for word in options.runs if word.startswith("metrics")]
            with initialize_config_dir(str(config_folder()), version_base="1.3"):
                config.check_metrics(compose("config", overrides=overrides))
        case "dashboard":
            assert needs == "account"


class _Parsed(BaseException):
    """Ends a program once its command line is parsed; no program catches it."""


def _parsed(monkeypatch: pytest.MonkeyPatch, program: str, arguments: list[str]) -> argparse.Namespace:
    """What a program, a module or a file, makes of its command line `arguments`, without running it."""
    for name in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)

        def stop(*parser_and_arguments: Any, parse: Any = parse) -> None:
            raise _Parsed(parse(*parser_and_arguments))

        monkeypatch.setattr(argparse.ArgumentParser, name, stop)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    file = program.endswith(".py")
    monkeypatch.syspath_prepend(str((ROOT / program).parent))  # as Python does for a file
    with pytest.raises(_Parsed) as ended:
        runpy.run_path(str(ROOT / program), run_name="__main__") if file else runpy.run_module(
            program, run_name="__main__"
        )
    return ended.value.args[0]


def _check_run(program: str, arguments: list[str]) -> None:
    """Compose the configuration of a command line, or of the first job of its sweep, and build its choices."""
    name = "config" if program == "deft_lightning" else "thresholds"
    if arguments[0] in ("spectrum", "factors", "propose"):
        name, arguments = f"thresholds_{arguments[0]}", arguments[1:]
    options = get_args_parser().parse_args(arguments)
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        overrides = _first_job(name, options.overrides) if options.multirun else options.overrides
        cfg = compose(name, overrides=overrides)
    OmegaConf.resolve(cfg)
    config.check_overrides(cfg, overrides)
    with open_dict(cfg):  # fields that only measurements have
        for field in ("repeats", "population", "n"):
            cfg.pop(field, None)
    config.build_choices(cfg)


def _first_job(name: str, overrides: list[str]) -> list[str]:
    """The overrides of the first job that --multirun makes, settings of the launcher included.

    As in Hydra, what is typed replaces what the configuration sweeps over.
    """
    loader = GlobalHydra.instance().config_loader()
    cfg = loader.load_configuration(name, overrides, run_mode=RunMode.MULTIRUN)
    params = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*params, *overrides])
    return list({override.get_key_element(): _first(override) for override in parsed}.values())


def _first(override: Override) -> str:
    if not override.is_sweep_override():
        return override.input_line
    value = override.value()
    first = value.start if isinstance(value, IntervalSweep) else next(override.sweep_string_iterator())
    return f"{override.get_key_element()}={first}"


@pytest.mark.acceptance  # trains: the blocks of a page run in order, in one namespace
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.language == "python" for b in blocks(page))], ids=lambda page: page.name
)
def test_python_of_a_page(page: Path, elsewhere: Path, dsprites_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "default_root", lambda: dsprites_root)
    if RUN in page.read_text():  # the pages' placeholder of a trained run
        smoke = ("+experiment=color_dsprites", "scale=smoke", "trainer=cpu", "logger=csv", *PLAIN)
        run.train(*compose_run(elsewhere / RUN, base=smoke))
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    monkeypatch.setattr(pl, "Trainer", partial(pl.Trainer, limit_train_batches=1, **quiet))  # a step an epoch
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec"), namespace)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_name_their_language_and_known_needs(page: Path) -> None:
    assert page.read_text().count("\n```") == 2 * len(blocks(page))
    assert page.read_text().count("\n<!-- needs: ") == sum(block.needs is not None for block in blocks(page))
    for block in blocks(page):
        assert block.language in ("bash", "python", "text", "yaml", "csv", "bibtex")
        assert block.needs is None or block.needs in NEEDS
        assert not re.search("8 ?<", block.text)  # an include that was not found, or that a formatter took for Python
        if block.language == "yaml":
            yaml.safe_load(block.text)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_and_names_exist(page: Path) -> None:
    """Files that are linked or named, options of choices, extras, and the modules of the API reference."""
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for path in re.findall(r"`([\w./]+/[\w./]*(?:\.py|\.md|\.yaml|/))`", text):
        if path.split("/")[0] not in (
            "outputs",
            "multirun_outputs",
            "report",
            "checkpoints",
            "figures",
            "wandb",
            "site",
        ):
            assert (ROOT / path).exists() or (ROOT / "deft_lightning" / path).exists(), path
    for group, option in re.findall(r"`(\w+)=(\w+)`", text):
        if (config_folder() / group).is_dir():
            assert (config_folder() / group / f"{option}.yaml").exists(), f"{group}={option}"
    for extra in re.findall(r"deft-lightning\[(\w+)\]", text):
        assert extra in PROJECT["optional-dependencies"]
    for module in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE):
        import_module(module)


@pytest.mark.parametrize("group", [path.name for path in sorted(config_folder().iterdir()) if path.is_dir()])
def test_the_table_of_choices_has_every_option(group: str) -> None:
    if group in ("experiment", "hydra", "sweep", "table1"):
        pytest.skip("has a page of its own")
    row = re.search(rf"^\| `{group}` \|.*\| (.*) \|$", (ROOT / "docs" / "running.md").read_text(), re.MULTILINE)
    assert row, f"docs/running.md has no row for {group}"
    files = {path.stem for path in (config_folder() / group).glob("*.yaml") if not path.stem.startswith("_")}
    assert set(re.findall(r"`(\w+)`", row[1])) == files


def test_the_citation_is_of_this_version_and_this_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (bibtex,) = (block.text for block in blocks(ROOT / "README.md") if block.language == "bibtex")
    names = [
        f"{author['family-names']}, {author['given-names']}" for author in citation["preferred-citation"]["authors"]
    ]
    assert citation["version"] == PROJECT["version"]
    assert " and ".join(names) in bibtex
    assert citation["preferred-citation"]["title"] in bibtex.replace("{", "").replace("}", "")
