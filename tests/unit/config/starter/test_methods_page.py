"""docs/methods.md says what the facts say."""

from __future__ import annotations

from pathlib import Path

from raytune_ft.config.methods.choice import METHODS
from raytune_ft.config.objectives.choice import OBJECTIVES
from raytune_ft.config.starter.methods_page import render

PAGE = Path(__file__).parents[4] / "docs/methods.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "python -m raytune_ft.config.starter.methods_page > docs/methods.md"
    )


def test_the_page_has_each_objective_with_each_method() -> None:
    page = render()
    for objective, facts in OBJECTIVES.items():
        for method in METHODS if facts.rows else ():
            assert f"| `{objective}` | `{method}` |" in page
