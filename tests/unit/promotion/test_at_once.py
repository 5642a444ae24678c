"""Two who promote at once: each is judged against the champion that it replaces."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.errors import RaytuneError
from raytune_ft.paths import RunDirectory
from raytune_ft.promotion import child
from raytune_ft.promotion.gates import GateRefusedError
from raytune_ft.promotion.promote import Promotion, promote
from raytune_ft.registry.journal import read_journal
from raytune_ft.registry.staging import StagedAdapter
from raytune_ft.registry.store import Registry


@pytest.fixture
def runs(run: RunDirectory, tmp_path: Path, write_adapter, evaluate, registry: Registry) -> list[RunDirectory]:
    """Version 1 is champion; two runs have other weights, each right on 352 rows."""
    promote(run, registry)
    found = []
    for fill in (2, 3):
        write_adapter(fill=fill)
        evaluate()
        found.append(RunDirectory(Path(shutil.copytree(run.root, tmp_path / "runs" / f"movies-{fill}"))))
    return found


def answer_for(engines: Any, monkeypatch: pytest.MonkeyPatch, right: dict[str, int]) -> None:
    """Lets version -> right rows say how good the champion is that is scored."""

    def run_child(module: str, spec: dict[str, Any], *rest: Any) -> dict[str, Any]:
        if spec.get("champion"):
            engines.right = right[Path(spec["champion"]).name]
        return dict(engines(module, spec, *rest))

    monkeypatch.setattr(child, "run_child", run_child)


def both_judged_before_either_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are through their gates when the first takes the registry's lock."""
    judged, real = threading.Barrier(2, timeout=30), StagedAdapter.check_unchanged
    waited = threading.local()

    def check(self: StagedAdapter) -> None:
        real(self)
        if not getattr(waited, "done", False):
            waited.done = True
            judged.wait()

    monkeypatch.setattr(StagedAdapter, "check_unchanged", check)


def at_once(runs: list[RunDirectory], registry: Registry) -> list[Promotion | Exception]:
    def attempt(run: RunDirectory) -> Promotion | Exception:
        try:
            return promote(run, Registry(registry.root))
        except RaytuneError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return sorted(pool.map(attempt, runs), key=lambda done: isinstance(done, Exception))


def test_fault_40_a_winner_that_was_judged_against_an_old_champion_is_judged_again(
    runs: list[RunDirectory], registry: Registry, engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_for(engines, monkeypatch, {"1": 340, "2": 352})
    both_judged_before_either_moves(monkeypatch)
    first, second = at_once(runs, registry)
    assert isinstance(first, Promotion) and isinstance(second, Promotion)
    assert (first.version, first.previous, second.version, second.previous) in {(2, 1, 3, 2), (3, 2, 2, 1)}
    for move in read_journal(registry, "movies")[1:]:
        assert move.gates["no_worse"]["champion"] == move.before, "judged against another than it replaced"


def test_the_second_is_refused_where_the_first_one_is_better(
    runs: list[RunDirectory], registry: Registry, engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_for(engines, monkeypatch, {"1": 340, "2": 400})
    both_judged_before_either_moves(monkeypatch)
    first, second = at_once(runs, registry)
    assert isinstance(first, Promotion) and isinstance(second, GateRefusedError)
    assert "no_worse: against the champion movies@2" in str(second)
    assert (registry.versions("movies"), registry.aliases("movies")) == ([1, 2], {"champion": 2, "previous": 1})
    assert [path.name for path in (registry.root / ".incoming").iterdir() if path.is_dir()] == []


def test_of_two_first_versions_the_second_is_compared_with_the_first(
    run: RunDirectory, tmp_path: Path, registry: Registry, write_adapter, evaluate, engines, monkeypatch
) -> None:
    other = RunDirectory(Path(shutil.copytree(run.root, tmp_path / "runs" / "other")))
    write_adapter(fill=2)
    evaluate()
    answer_for(engines, monkeypatch, {"1": 400})
    both_judged_before_either_moves(monkeypatch)
    first, second = at_once([run, other], registry)
    assert isinstance(first, Promotion) and isinstance(second, GateRefusedError)
    assert registry.versions("movies") == [1]


def test_a_challenger_is_judged_against_the_champion_of_its_move_too(
    runs: list[RunDirectory], registry: Registry, engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(runs[1], registry, alias="challenger")
    answer_for(engines, monkeypatch, {"1": 340, "2": 400})
    engines.meanwhile = lambda: registry.set_alias("movies", "champion", 2)
    with pytest.raises(GateRefusedError, match="against the champion movies@2"):
        promote(runs[0], registry, alias="challenger")


def test_without_the_gate_no_champion_is_asked_for(runs: list[RunDirectory], registry: Registry, engines) -> None:
    promote(runs[1], registry, alias="challenger")
    engines.meanwhile = lambda: registry.set_alias("movies", "champion", 2)
    assert promote(runs[0], registry, skip=["no_worse"]).previous == 2


def test_a_champion_that_never_keeps_still_ends_in_one_line(
    runs: list[RunDirectory], registry: Registry, engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(runs[1], registry, alias="challenger")
    real = StagedAdapter.check_unchanged

    def check(self: StagedAdapter) -> None:  # after every comparison
        real(self)
        now = registry.alias("movies", "champion")
        registry.set_alias("movies", "champion", 2 if now == 1 else 1)

    monkeypatch.setattr(StagedAdapter, "check_unchanged", check)
    with pytest.raises(RaytuneError, match=r"^movies: the champion moved 5 times .*; nothing was promoted;") as caught:
        promote(runs[0], registry)
    assert "\n" not in str(caught.value) and registry.versions("movies") == [1, 2]


def test_fault_40_the_canary_ends_only_against_the_champion_of_its_challengers_comparison(
    runs: list[RunDirectory], registry: Registry
) -> None:
    promote(runs[0], registry, alias="challenger")
    promote(runs[1], registry)  # 3 is champion now, and 2 was compared with 1
    with pytest.raises(RaytuneError, match="movies@2: was compared with champion 1, there is champion 3 now"):
        registry.end_canary("movies")
    assert registry.aliases("movies") == {"champion": 3, "previous": 1, "challenger": 2}
    assert [move.action for move in read_journal(registry, "movies")] == ["promote"] * 3
    assert registry.end_canary("movies", force=True) == (2, 3)
    assert read_journal(registry, "movies")[-1].forced


def test_the_canary_ends_where_the_champion_is_the_same_or_none_was_compared_with(
    runs: list[RunDirectory], registry: Registry
) -> None:
    promote(runs[0], registry, alias="challenger")
    assert registry.end_canary("movies") == (2, 1)
    assert not read_journal(registry, "movies")[-1].forced
    promote(runs[1], registry, alias="challenger", skip=["no_worse"])
    registry.rollback("movies")
    assert registry.end_canary("movies") == (3, 1)


def test_a_challenger_that_found_no_champion_does_not_replace_one(
    run: RunDirectory, tmp_path: Path, registry: Registry, write_adapter, evaluate
) -> None:
    promote(run, registry, alias="challenger")
    write_adapter(fill=2)
    evaluate()
    promote(run, registry)
    with pytest.raises(RaytuneError, match="movies@1: was compared with no champion, there is champion 2 now"):
        registry.end_canary("movies")
