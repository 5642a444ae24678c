"""Who answers: by name, by number, by alias, by a traffic rule."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, set_traffic
from raytune_ft.serving.models.catalog import Catalog, UnknownModelError, build_catalog
from raytune_ft.serving.models.routing import Route, Router
from raytune_ft.serving.settings import ServeArgs

Add = Callable[..., Registry]


@pytest.fixture
def registry(base: Path, add: Add) -> Registry:
    """`movies`: champion 1, challenger 2, and 3 without an alias."""
    add(base, champion=True)
    registry = add(base)
    registry.set_alias("movies", "challenger", 2)
    return add(base)


@pytest.fixture
def catalog(base: Path, registry: Registry) -> Catalog:
    return build_catalog(ServeArgs(base_model=str(base), registry=str(registry.root)))


def evenly(parts: int = 100) -> Callable[[], float]:
    numbers: Iterator[float] = (number % parts / parts for number in range(10**9))
    return lambda: next(numbers)


def shares(router: Router, model: str = "base:movies", user: str | None = None) -> Counter[str]:
    return Counter(router.route(model, user).model for _ in range(100))


def test_without_a_rule_the_champion_answers(catalog: Catalog) -> None:
    router = Router(catalog)
    assert router.route("base") == Route("base")
    assert router.route("base:movies") == Route("base:movies@1", "champion")
    assert router.route("base:movies@challenger") == Route("base:movies@2", "challenger")
    assert router.route("base:movies@3") == Route("base:movies@3")


def test_a_canary_gets_its_share_and_only_of_the_plain_name(catalog: Catalog, registry: Registry) -> None:
    set_traffic(registry, "movies", canary(10))
    router = Router(catalog, evenly())
    assert shares(router) == {"base:movies@1": 90, "base:movies@2": 10}
    assert shares(router, "base:movies@champion") == {"base:movies@1": 100}
    assert shares(router, "base:movies@3") == {"base:movies@3": 100}


def test_a_rule_counts_from_the_next_request_on_and_until_it_is_taken_away(
    catalog: Catalog, registry: Registry
) -> None:
    router = Router(catalog, evenly())
    assert shares(router) == {"base:movies@1": 100}
    set_traffic(registry, "movies", canary(50))
    assert shares(router) == {"base:movies@1": 50, "base:movies@2": 50}
    set_traffic(registry, "movies", None)
    assert shares(router) == {"base:movies@1": 100}


def test_a_user_stays_with_one_version(catalog: Catalog, registry: Registry) -> None:
    set_traffic(registry, "movies", canary(50, by="user"))
    router = Router(catalog, evenly())
    assert all(len(shares(router, user=f"user-{number}")) == 1 for number in range(20))
    assert len({router.route("base:movies", f"user-{number}").model for number in range(20)}) == 2
    assert len(shares(router, user=None)) == 2


def test_in_the_shadow_the_champion_answers_and_the_challenger_is_asked_besides(
    catalog: Catalog, registry: Registry
) -> None:
    set_traffic(registry, "movies", canary(100, shadow=True))
    router = Router(catalog, evenly())
    assert router.route("base:movies") == Route("base:movies@1", "champion", "base:movies@2")
    assert router.route("base:movies@1") == Route("base:movies@1")


def test_a_challenger_that_cannot_be_served_turns_nobody_away(
    base: Path, registry: Registry, add: Add, catalog: Catalog
) -> None:
    add(base, rank=64)
    registry.set_alias("movies", "challenger", 4)
    set_traffic(registry, "movies", canary(100))
    assert shares(Router(catalog)) == {"base:movies@1": 100}
    set_traffic(registry, "movies", canary(100, shadow=True))
    assert Router(catalog).route("base:movies").shadow is None


def test_a_challenger_that_is_the_champion_is_not_asked_twice(catalog: Catalog, registry: Registry) -> None:
    registry.set_alias("movies", "challenger", 1)
    set_traffic(registry, "movies", canary(100, shadow=True))
    assert Router(catalog).route("base:movies").shadow is None


def test_a_broken_rule_leaves_the_champion(catalog: Catalog, registry: Registry) -> None:
    (registry.root / "movies" / "traffic.json").write_text("{")
    assert shares(Router(catalog)) == {"base:movies@1": 100}


@pytest.mark.parametrize("reference", ["movies@", "movies@none", "movies@0", "movies@01", "movies@1@2", "news"])
def test_what_leads_nowhere_is_refused(catalog: Catalog, reference: str) -> None:
    with pytest.raises(UnknownModelError, match="does not exist"):
        Router(catalog).route(f"base:{reference}")


def test_a_catalog_travels_to_a_replica_without_what_it_remembers(catalog: Catalog) -> None:
    assert Router(catalog).route("base:movies").model == "base:movies@1"
    assert Router(pickle.loads(pickle.dumps(catalog))).route("base:movies").model == "base:movies@1"


def test_a_request_reads_no_manifest_twice(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router(catalog)
    router.route("base:movies")

    def fail(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("raytune_ft.registry.manifest.read", fail)
    monkeypatch.setattr("raytune_ft.registry.files.read_json", fail)
    assert router.route("base:movies").model == "base:movies@1"
