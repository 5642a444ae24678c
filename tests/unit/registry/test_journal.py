from __future__ import annotations

import json
import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.registry import files, store, traffic
from raytune_ft.registry.journal import Move, read_journal, unsettled
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, read_traffic, set_traffic


def lines(registry: Registry) -> list[tuple[Any, ...]]:
    return [(move.action, move.alias, move.before, move.after) for move in read_journal(registry, "movies")]


def journal(registry: Registry) -> Path:
    return registry.root / "movies" / "journal.jsonl"


def test_each_move_is_a_line_that_says_who_what_when_and_from_which_study(registry: Registry) -> None:
    registry.set_alias("movies", "champion", 1)
    gates = {"gain": {"passed": True, "reason": "+0.08"}}
    move = Move(action="promote", gates=gates, forced=True, command="raytune-ft promote runs/movies --force")
    registry.set_alias("movies", "champion", 2, move=move)
    registry.rollback("movies")
    first, second, third = (json.loads(line) for line in journal(registry).read_text().splitlines())
    assert (first["action"], first["alias"], first["from"], first["to"]) == ("alias", "champion", None, 1)
    assert (first["study"], first["trial"], first["forced"], first["command"]) == ("s", "0001", False, None)
    assert (second["action"], second["from"], second["to"], second["forced"]) == ("promote", 1, 2, True)
    assert second["gates"] == gates and second["command"] == "raytune-ft promote runs/movies --force"
    assert (third["action"], third["from"], third["to"]) == ("rollback", 2, 1)
    assert re.fullmatch(r"[^@]+@.+", first["who"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first["time"])
    assert [read.to_json() for read in read_journal(registry, "movies")] == [first, second, third]


def test_an_adapter_that_never_moved_has_an_empty_journal(registry: Registry) -> None:
    assert read_journal(registry, "movies") == []


def test_a_move_that_was_killed_after_its_line_is_answered_at_the_next(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.set_alias("movies", "champion", 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(store, "write_json", killed)
        registry.set_alias("movies", "champion", 3)
    assert registry.aliases("movies") == {"champion": 1}
    left = unsettled(registry, "movies")
    assert left is not None and (left.alias, left.after) == ("champion", 3)
    registry.set_alias("movies", "challenger", 2)
    assert lines(registry) == [
        ("alias", "champion", None, 1),
        ("alias", "champion", 1, 3),
        ("not_carried_out", "champion", 1, 3),
        ("alias", "challenger", None, 2),
    ]
    registry.set_alias("movies", "challenger", 3)
    assert lines(registry)[4:] == [("alias", "challenger", 2, 3)]
    assert unsettled(registry, "movies") is None


def test_a_rule_that_was_killed_after_its_line_is_answered_at_the_next_move(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.set_alias("movies", "champion", 1)
    registry.set_alias("movies", "challenger", 2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(traffic, "write_json", killed)
        set_traffic(registry, "movies", canary(10))
    assert read_traffic(registry, "movies") is None
    set_traffic(registry, "movies", canary(20))
    rules = [canary(10).to_json(), canary(10).to_json(), canary(20).to_json()]
    assert lines(registry)[2:] == [
        ("traffic", None, None, rules[0]),
        ("not_carried_out", None, None, rules[1]),
        ("traffic", None, None, rules[2]),
    ]


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_no_move_and_the_next_line_is_whole(registry: Registry, kept: int) -> None:
    registry.set_alias("movies", "champion", 1)
    whole = journal(registry).read_bytes()
    torn = whole.rstrip(b"\n")[:kept]
    journal(registry).write_bytes(whole + torn)
    assert lines(registry) == [("alias", "champion", None, 1)]
    registry.set_alias("movies", "champion", 2)
    assert lines(registry) == [("alias", "champion", None, 1), ("alias", "champion", 1, 2)]
    assert journal(registry).read_bytes().startswith(whole) and torn + b"{" not in journal(registry).read_bytes()


def test_a_first_line_that_was_torn_leaves_an_empty_journal(registry: Registry) -> None:
    journal(registry).write_bytes(b'{"time": "20')
    assert (read_journal(registry, "movies"), unsettled(registry, "movies")) == ([], None)
    registry.set_alias("movies", "champion", 2)
    assert lines(registry) == [("alias", "champion", None, 2)]


def test_a_whole_last_line_without_its_end_is_kept(registry: Registry) -> None:
    registry.set_alias("movies", "champion", 1)
    journal(registry).write_bytes(journal(registry).read_bytes().rstrip(b"\n"))
    registry.set_alias("movies", "champion", 2)
    assert lines(registry) == [("alias", "champion", None, 1), ("alias", "champion", 1, 2)]


def test_a_broken_line_in_the_middle_is_named_and_does_not_stop_a_rollback(registry: Registry) -> None:
    registry.set_alias("movies", "champion", 1)
    registry.set_alias("movies", "champion", 2)
    first, second = journal(registry).read_text().splitlines()
    journal(registry).write_text(f"{first}\nnot json\n{second}\n")
    with pytest.raises(IntegrityError, match=r"journal\.jsonl:2: is no move"):
        read_journal(registry, "movies")
    assert registry.rollback("movies") == 1


def test_without_its_line_nothing_is_moved(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.set_alias("movies", "champion", 1)
    whole = journal(registry).read_bytes()
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda handle, data: write(handle, data[:9]))  # the disk is full
        with pytest.raises(RaytuneError, match="without its line nothing is moved"):
            registry.set_alias("movies", "champion", 2)
    assert (registry.aliases("movies"), journal(registry).read_bytes()) == ({"champion": 1}, whole)


@pytest.mark.parametrize("name", ["journal.jsonl", "aliases.json", "traffic.json", ".lock"])
def test_a_link_in_the_place_of_a_file_is_refused_and_its_target_unharmed(
    registry: Registry, tmp_path: Path, name: str
) -> None:
    registry.set_alias("movies", "champion", 1)
    target = tmp_path / "target"
    target.write_text("{}")
    place = registry.root / "movies" / name
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    with pytest.raises((IntegrityError, RaytuneError)):
        registry.set_alias("movies", "challenger", 2)
        set_traffic(registry, "movies", canary(10))
    assert target.read_text() == "{}"


def _move(root: Path, alias: str, versions: list[int]) -> None:
    for version in versions:
        Registry(root).set_alias("movies", alias, version)


def test_processes_that_move_at_once_lose_no_line_and_end_where_the_last_line_says(
    registry: Registry, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    orders = [("champion", [1, 2] * 4), ("champion", [3, 1] * 4), ("challenger", [2, 3] * 4)]
    workers = [context.Process(target=_move, args=(registry.root, alias, order)) for alias, order in orders]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    moves = read_journal(registry, "movies")
    assert sorted((move.alias, move.after) for move in moves) == sorted(
        (alias, version) for alias, order in orders for version in order
    )
    state: dict[str | None, int] = {}
    for move in moves:  # each line starts where the line before it ended
        assert move.before == state.get(move.alias)
        state[move.alias] = move.after
    last = [move for move in moves if move.alias == "champion" and move.before != move.after][-1]
    assert registry.aliases("movies") == {**state, "previous": last.before}


def _die_in_the_middle(root: Path) -> None:
    def killed(*_: object) -> None:
        os._exit(9)

    store.write_json = killed  # type: ignore[assignment]
    Registry(root).set_alias("movies", "champion", 3)


def test_a_killed_process_leaves_no_lock_behind(registry: Registry) -> None:
    registry.set_alias("movies", "champion", 1)
    worker = multiprocessing.get_context("fork").Process(target=_die_in_the_middle, args=(registry.root,))
    worker.start()
    worker.join(30)
    assert worker.exitcode == 9
    registry.set_alias("movies", "champion", 2)
    assert [line[0] for line in lines(registry)] == ["alias", "alias", "not_carried_out", "alias"]


def test_a_second_process_that_waits_too_long_is_told_so(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LOCK_TIMEOUT_S", 0.05)
    with registry.lock("movies"), pytest.raises(RaytuneError, match="another process has held it"):
        registry.set_alias("movies", "champion", 1)


def test_a_user_without_a_name_is_a_number(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    registry.set_alias("movies", "champion", 1)
    assert read_journal(registry, "movies")[0].who.split("@")[0] == str(os.getuid())
