"""Every command and every file that README and docs name exists, with those options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from raytune_ft.cli.app import app
from raytune_ft.training.lane.model.families import MODEL_TYPES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
COMMANDS = sorted({line.split("  #")[0].strip() for line in re.findall(r"^ {2,}(raytune-ft .+)$", TEXT, re.MULTILINE)})
FILES = sorted(set(re.findall(r"\b(?:experiments|search_spaces|serve|clusters|notebooks|docs)/[\w./-]+\.\w+", TEXT)))
USERS_OWN = {"experiments/my.yaml"}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_documented_command_parses_with_its_options(line: str) -> None:
    verb: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while hasattr(verb, "commands"):
        verb = verb.commands[words.pop(0)]
    verb.make_context("raytune-ft", words)


def test_there_are_documented_commands_to_check() -> None:
    assert len(COMMANDS) >= 8 and len(FILES) >= 5


@pytest.mark.parametrize("name", FILES)
def test_a_documented_file_exists(name: str) -> None:
    assert name in USERS_OWN or (ROOT / name).exists()


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^ +make ([a-z]+)", TEXT, re.MULTILINE)) <= targets


def test_the_page_on_lanes_names_the_families_that_lanes_run() -> None:
    paragraph = re.search(r"^Lanes run (.+?):", (ROOT / "docs/lanes.md").read_text(), re.MULTILINE | re.DOTALL)
    assert paragraph and tuple(re.findall(r"`(\w+)`", paragraph[1])) == MODEL_TYPES
