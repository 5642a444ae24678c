"""docs/configuration.md is what the models say."""

from __future__ import annotations

from pathlib import Path

from raytune_ft.config.starter.reference import render

ROOT = Path(__file__).parents[4]


def test_the_configuration_page_is_current() -> None:
    written = (ROOT / "docs/configuration.md").read_text()
    assert written == render(), "run: python -m raytune_ft.config.starter.reference > docs/configuration.md"


def test_every_key_says_what_it_is_for() -> None:
    silent = [line for line in render().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert [line for line in silent if not line.startswith("| `type`")] == []
