"""How often a test split decided something is counted, over all runs beside one another."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.data.prepared import TEST_ROWS
from raytune_ft.errors import IntegrityError
from raytune_ft.evaluation.uses import LEDGERS, Use, Uses, note_use, read_uses
from raytune_ft.paths import RunDirectory, write_text

ROWS = json.dumps({"prompt": "a", "completion": " b"}) + "\n"


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunDirectory]:
    def make(name: str, rows: str = ROWS) -> RunDirectory:
        run = RunDirectory(tmp_path / "runs" / name)
        write_text(run.data / TEST_ROWS, rows)
        return run

    return make


def evaluated(run: RunDirectory, weights: str) -> Use:
    return Use("evaluate", run.root.name, "0003", weights, "base")


def test_runs_on_the_same_rows_are_counted_together_and_others_apart(make_run) -> None:
    first, second, other = make_run("first"), make_run("second"), make_run("other", ROWS * 2)
    assert read_uses(first) is None
    assert note_use(first, evaluated(first, "aa")) == Uses(1, 0, 1)
    assert note_use(second, evaluated(second, "bb")) == Uses(2, 0, 2)
    assert note_use(other, evaluated(other, "cc")) == Uses(1, 0, 1)
    assert note_use(second, Use("promote", "second", "0003", "bb", "movies@champion, version 1")) == Uses(2, 1, 2)
    assert read_uses(first) == read_uses(second) == Uses(2, 1, 2)
    assert sorted(path.suffix for path in (first.root.parent / LEDGERS).iterdir()) == [".json"] * 2 + [".lock"] * 2


def test_the_same_decision_again_is_none_but_another_champion_makes_one(make_run) -> None:
    run = make_run("first")
    for _ in range(3):
        note_use(run, evaluated(run, "aa"))
        note_use(run, Use("promote", "first", "0003", "aa", "movies@champion, version 1"))
    assert read_uses(run) == Uses(1, 1, 1)
    assert note_use(run, Use("promote", "first", "0003", "aa", "movies@champion, version 2")) == Uses(1, 2, 1)
    assert note_use(run, evaluated(run, "bb")) == Uses(2, 2, 1)


def test_many_at_once_are_all_counted(make_run) -> None:
    runs = [make_run(f"run-{number}") for number in range(12)]
    threads = [threading.Thread(target=note_use, args=(run, evaluated(run, run.root.name))) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_uses(runs[0]) == Uses(12, 0, 12)


def test_a_run_without_a_test_split_has_nothing_to_count(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "runs" / "none")
    assert note_use(run, evaluated(run, "aa")) is None and read_uses(run) is None
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "broken",
    [
        "[]", "{", '{"uses": 3}', '{"uses": [{}]}', '{"uses": [{"kind": "evaluate", "run": {}}]}',
        '{"uses": [{"kind": ["a"]}]}', "[" * 100_000,
    ],
    ids=range(7),
)  # fmt: skip
def test_a_broken_ledger_is_named_in_one_line_and_never_begun_anew(make_run, broken: str) -> None:
    run = make_run("first")
    note_use(run, evaluated(run, "aa"))
    (ledger,) = (run.root.parent / LEDGERS).glob("*.json")
    ledger.write_text(broken)
    for asked in (lambda: read_uses(run), lambda: note_use(run, evaluated(run, "bb"))):
        with pytest.raises(IntegrityError) as caught:
            asked()
        assert str(ledger) in str(caught.value) and "\n" not in str(caught.value)
    assert ledger.read_text() == broken


def test_a_ledger_that_can_not_be_written_is_named(make_run) -> None:
    run = make_run("first")
    (run.root.parent / LEDGERS).write_text("in the way")
    with pytest.raises(IntegrityError, match=f"{LEDGERS}.*can't be written .*; each use of a test split is counted"):
        note_use(run, evaluated(run, "aa"))


def test_the_words_say_what_luck_makes_of_many_winners() -> None:
    assert Uses(1, 0, 1).words(0.95) == (
        "These rows were used for 1 decision so far, in 1 run: 1 winner compared with the base, 0 promotions judged."
    )
    many = Uses(10, 3, 4).words(0.95)
    assert many.startswith("These rows were used for 13 decisions so far, in 4 runs: 10 winners compared")
    assert many.endswith("of 10 winners no better than the base, one passes by luck in up to 22 % of the cases.")
