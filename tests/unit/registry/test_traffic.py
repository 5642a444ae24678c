from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.paths import write_json
from raytune_ft.registry import store
from raytune_ft.registry.journal import read_journal
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import Traffic, canary, read_traffic, set_traffic


@pytest.fixture
def canaried(registry: Registry) -> Registry:
    """Champion 2 (before it 1), challenger 3 with a tenth of the requests."""
    for alias, version in (("champion", 1), ("champion", 2), ("challenger", 3)):
        registry.set_alias("movies", alias, version)
    set_traffic(registry, "movies", canary(10), command="raytune-ft canary movies --challenger 10")
    return registry


def moves(registry: Registry) -> list[tuple[Any, ...]]:
    return [(move.action, move.alias, move.before, move.after) for move in read_journal(registry, "movies")]


def test_a_rule_is_written_as_the_contract_says_and_journaled(canaried: Registry) -> None:
    written = json.loads((canaried.root / "movies" / "traffic.json").read_text())
    assert written == {"schema": 1, "shares": {"champion": 90, "challenger": 10}, "by": "request", "shadow": False}
    assert read_traffic(canaried, "movies") == canary(10)
    last = read_journal(canaried, "movies")[-1]
    assert (last.action, last.before, last.after) == ("traffic", None, written)
    assert last.command == "raytune-ft canary movies --challenger 10"
    set_traffic(canaried, "movies", None)
    assert read_traffic(canaried, "movies") is None
    assert moves(canaried)[-1] == ("traffic", None, written, None)


def test_what_changes_nothing_is_not_journaled(canaried: Registry) -> None:
    before = moves(canaried)
    set_traffic(canaried, "movies", canary(10))
    assert moves(canaried) == before
    set_traffic(canaried, "movies", None)
    set_traffic(canaried, "movies", None)
    assert len(moves(canaried)) == len(before) + 1


def test_traffic_to_an_alias_that_is_not_there_is_refused(registry: Registry) -> None:
    registry.set_alias("movies", "champion", 1)
    with pytest.raises(InputError, match="has no challenger"):
        set_traffic(registry, "movies", canary(10))
    assert not (registry.root / "movies" / "traffic.json").exists()


def test_an_adapter_without_a_rule_has_none(registry: Registry) -> None:
    assert read_traffic(registry, "movies") is None


def test_a_rule_whose_alias_is_gone_is_no_rule_and_the_next_rollback_clears_it(canaried: Registry) -> None:
    write_json(canaried.root / "movies" / "aliases.json", {"champion": 2, "previous": 1})
    assert read_traffic(canaried, "movies") is None
    canaried.rollback("movies")
    assert not (canaried.root / "movies" / "traffic.json").exists()
    assert moves(canaried)[-2:] == [("traffic", None, canary(10).to_json(), None), ("rollback", "champion", 2, 1)]


def test_a_rollback_leaves_a_rule_that_still_leads_somewhere(canaried: Registry) -> None:
    canaried.rollback("movies")
    assert read_traffic(canaried, "movies") == canary(10)


def test_the_end_of_a_canary_is_one_move(canaried: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    before = moves(canaried)
    written: list[dict[str, int]] = []
    with monkeypatch.context() as patched:
        patched.setattr(store, "write_json", lambda path, value: (written.append(value), write_json(path, value)))
        assert canaried.end_canary("movies") == (3, 2)
    assert written == [{"champion": 3, "previous": 2}]
    assert canaried.aliases("movies") == {"champion": 3, "previous": 2}
    assert not (canaried.root / "movies" / "traffic.json").exists()
    assert moves(canaried) == [*before, ("canary_end", "champion", 2, 3)]
    assert canaried.rollback("movies") == 2


def test_a_canary_without_a_challenger_can_not_end(registry: Registry) -> None:
    registry.set_alias("movies", "champion", 1)
    with pytest.raises(InputError, match="has no challenger"):
        registry.end_canary("movies")
    assert len(moves(registry)) == 1


def test_a_canary_that_was_killed_at_its_end_sends_nobody_to_the_challenger_that_is_gone(
    canaried: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(store, "remove_rule", killed)
        canaried.end_canary("movies")
    assert canaried.aliases("movies") == {"champion": 3, "previous": 2}
    assert read_traffic(canaried, "movies") is None
    canaried.set_alias("movies", "challenger", 1)  # the old rule must not wake up for the next challenger
    assert read_traffic(canaried, "movies") is None


@pytest.mark.parametrize(
    "change",
    [
        {"shares": {"champion": 90, "challenger": 20}},
        {"shares": {"champion": 110, "challenger": -10}},
        {"shares": {"champion": 90.5, "challenger": 9.5}},
        {"shares": {"champion": "90", "challenger": "10"}},
        {"shares": {"champion": True, "challenger": 99}},
        {"shares": {}},
        {"shares": {"champion": 90, "previous": 10}},
        {"shares": {"champion": 90, "../../etc": 10}},
        {"by": "key"},
        {"shadow": "yes"},
        {"shadow": 1},
        {"schema": 2},
        {"share": 3},
    ],
)
def test_a_rule_that_breaks_the_rules_is_refused(canaried: Registry, change: dict[str, Any]) -> None:
    broken = {**canary(10).to_json(), **change}
    with pytest.raises(ValidationError):
        Traffic.model_validate(broken)
    path = canaried.root / "movies" / "traffic.json"
    path.write_text(json.dumps(broken))
    with pytest.raises(IntegrityError, match=r"traffic\.json: .*canary movies --off"):
        read_traffic(canaried, "movies")
    with pytest.raises(IntegrityError):
        canaried.rollback("movies")
    assert canaried.alias("movies", "champion") == 2
    set_traffic(canaried, "movies", None)
    assert canaried.rollback("movies") == 1


def test_half_a_rule_can_be_taken_away(canaried: Registry) -> None:
    path = canaried.root / "movies" / "traffic.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(IntegrityError):
        read_traffic(canaried, "movies")
    set_traffic(canaried, "movies", None)
    assert read_traffic(canaried, "movies") is None and not path.exists()


def test_the_draw_decides_by_request() -> None:
    rule = canary(10)
    draws = [number / 1000 for number in range(1000)]
    assert sum(rule.alias("movies", "someone", draw) == "challenger" for draw in draws) == 100
    assert all(canary(0).alias("movies", None, draw) == "champion" for draw in draws)
    assert all(canary(100).alias("movies", None, draw) == "challenger" for draw in draws)


def test_a_user_stays_where_they_are_whatever_is_drawn() -> None:
    rule = canary(25, by="user")
    users = [f"user-{number}" for number in range(4000)]
    chosen = {user: rule.alias("movies", user, 0.0) for user in users}
    assert chosen == {user: rule.alias("movies", user, 0.999) for user in users}
    assert 0.22 < sum(alias == "challenger" for alias in chosen.values()) / len(users) < 0.28
    other = {user: rule.alias("books", user, 0.0) for user in users}
    both = sum(chosen[user] == other[user] == "challenger" for user in users) / len(users)
    assert 0.04 < both < 0.09  # independent: a sixteenth


def test_a_user_who_met_the_challenger_stays_with_it_while_its_share_grows() -> None:
    users = [f"user-{number}" for number in range(500)]
    with_it: set[str] = set()
    for percent in (1, 5, 20, 50, 100):
        now = {user for user in users if canary(percent, by="user").alias("movies", user, 0.5) == "challenger"}
        assert with_it <= now
        with_it = now
    assert with_it == set(users)


def test_nobody_known_is_drawn_also_where_users_stick() -> None:
    rule = canary(50, by="user")
    assert [rule.alias("movies", None, draw) for draw in (0.1, 0.9)] == ["challenger", "champion"]
    assert rule.alias("movies", "\ud800", 0.1) in ("challenger", "champion")  # half a character, as JSON may hold


def test_in_the_shadow_the_champion_answers_and_the_challenger_is_asked_its_share() -> None:
    rule = canary(30, shadow=True)
    draws = [number / 100 for number in range(100)]
    assert {rule.alias("movies", None, draw) for draw in draws} == {"champion"}
    assert sum(rule.besides("movies", None, draw) == "challenger" for draw in draws) == 30
    assert {canary(30).besides("movies", None, draw) for draw in draws} == {None}
