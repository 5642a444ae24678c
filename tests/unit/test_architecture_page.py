"""The map of the house names what is there, and every room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import raytune_ft

PACKAGE = Path(raytune_ft.__file__).parent
ROOT = PACKAGE.parent
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAMED = sorted(name for name in set(re.findall(r"[\"`]((?:\w+/)+\w+\.py)\b", PAGE)) if not name.startswith("tests/"))
ROOMS = sorted({str(path.parent.relative_to(PACKAGE)) for path in PACKAGE.glob("*/**/*.py")})


@pytest.mark.parametrize("name", NAMED)
def test_a_module_of_the_map_exists(name: str) -> None:
    assert (PACKAGE / name).is_file()


def test_the_diagram_and_the_questions_name_many_modules() -> None:
    assert len(NAMED) > 80 and PAGE.count("-->") > 15


@pytest.mark.parametrize("room", ROOMS)
def test_the_map_has_every_room(room: str) -> None:
    rows = PAGE[PAGE.index("## The rooms") :]
    assert f"`{room}/`" in rows


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:\w+/)+\w+\.py)`", CONTRIBUTING))))
def test_a_module_that_a_contributor_is_sent_to_exists(name: str) -> None:
    assert (PACKAGE / name).is_file() or (ROOT / name).is_file()


@pytest.mark.parametrize(
    "name", re.findall(r"`(\w+)` in `([\w/]+\.py)`", PAGE) + re.findall(r"`([\w/]+\.py)`, `(\w+)`", PAGE)
)
def test_a_name_of_the_map_is_in_its_module(name: tuple[str, str]) -> None:
    path, word = sorted(name, key=lambda each: not each.endswith(".py"))
    assert word in (PACKAGE / path).read_text(encoding="utf-8")
