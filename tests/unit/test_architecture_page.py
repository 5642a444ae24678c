"""The map of the house names what is there, and every room."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import raytune_ft
from raytune_ft import api
from raytune_ft.events.kinds import Closed, Ended, Event, Progressed, Reported, Started
from raytune_ft.events.log import SCHEMA, as_values
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.progress import Phase, TrialProgress

PACKAGE = Path(raytune_ft.__file__).parent
ROOT = PACKAGE.parent
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
EVENTS = (ROOT / "docs/events.md").read_text(encoding="utf-8")
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


def test_a_list_that_a_contributor_adds_to_is_in_its_module() -> None:
    named = re.findall(r"`(\w+)` (?:of|in) `((?:\w+/)*\w+\.py)`", CONTRIBUTING)
    named += [("Proposer", "config/search/algorithms.py"), ("Scheduler", "config/search/schedulers.py")]
    assert len(named) > 10
    for word, path in named:
        file = PACKAGE / path if (PACKAGE / path).is_file() else ROOT / path
        assert re.search(rf"\b{word}\b", file.read_text(encoding="utf-8")), f"{word} is not in {path}"


@pytest.mark.parametrize(
    "event",
    [
        Started("0000", {"method.r": 8}),
        Progressed("0000", TrialProgress(Phase.training, 1, 5, 45)),
        Reported("0000", {"step": 5}),
        Ended("0000", Outcome(OutcomeKind.completed, "ran all 45 steps", 45, 0.5, 2.0)),
        Closed("all trials have ended"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_the_page_on_events_has_each_with_its_fields(event: Event) -> None:
    fields = as_values(event)
    row = re.search(rf"^\| `{fields.pop('event')}` \|[^|]+\|([^|]+)\|", EVENTS, re.MULTILINE)
    assert row and set(re.findall(r"`(\w+)`", row[1])) == set(fields)


def test_the_lines_that_the_page_shows_are_of_the_schema_that_it_names() -> None:
    lines = [json.loads(line) for line in re.findall(r"^    (\{.+\})$", EVENTS, re.MULTILINE)]
    assert {line["schema"] for line in lines} == {SCHEMA} and f"these lines is {SCHEMA}" in " ".join(EVENTS.split())
    assert [line["event"] for line in lines] == ["started", "reported", "ended", "closed"]


def test_the_listener_that_the_page_shows_is_passed_to_a_sweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = Ended("0003", Outcome(OutcomeKind.completed, "ran all 45 steps", 45, 0.5))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(api, "run_sweep", lambda experiment, *, listener: listener(ended))
    code = re.search(r"```python\n(.+?)```", EVENTS, re.DOTALL)
    assert code
    exec(code[1], {})
    assert capsys.readouterr().out == "0003 completed 0.5\n"
