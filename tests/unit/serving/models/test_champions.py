"""Who answers for a champion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.registry.store import Registry
from raytune_ft.serving.models.catalog import build_catalog
from raytune_ft.serving.models.champions import (
    LOADING,
    Champions,
    NotLoadedError,
    Standing,
    Version,
    is_not_loaded,
    stand,
)
from raytune_ft.serving.models.routing import Route, Router
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.settings import ServeArgs

REFUSED = "its rank is too great"


@pytest.mark.parametrize(
    ("champion", "others", "answering", "reason"),
    [
        (Version(3, loaded=True), [Version(2, loaded=True)], 3, ""),
        (Version(3), [], 3, ""),  # nobody could answer meanwhile
        (Version(3), [Version(2)], 3, ""),
        (Version(3), [Version(2, loaded=True)], 2, LOADING),
        (Version(3, REFUSED), [Version(2)], 2, REFUSED),
        (Version(3, REFUSED), [Version(2), Version(1, loaded=True)], 1, REFUSED),
        (Version(3, REFUSED), [Version(2, REFUSED), Version(1)], 1, REFUSED),
        (Version(3, REFUSED), [Version(2, REFUSED)], None, REFUSED),
        (Version(3, REFUSED), [Version(3, REFUSED)], None, REFUSED),
    ],
)
def test_the_newest_that_loads_answers(
    champion: Version, others: list[Version], answering: int | None, reason: str
) -> None:
    assert stand("movies", champion, others) == Standing("movies", 3, answering, reason)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(base: Path, add: Callable[..., Registry]) -> Registry:
    """`movies`: champion 3, previous 2."""
    for _ in range(3):
        registry = add(base, champion=True)
    return registry


@pytest.fixture
def champions(base: Path, registry: Registry, clock: Clock) -> Champions:
    return Champions(build_catalog(ServeArgs(base_model=str(base), registry=str(registry.root))), clock)


def test_a_version_that_did_not_load_is_tried_again_after_a_minute(champions: Champions, clock: Clock) -> None:
    champions.loaded("base:movies@2")
    champions.failed("base:movies@3", "broken")
    assert champions.standing("movies") == Standing("movies", 3, 2, "broken")
    clock.now = 61.0
    assert champions.standing("movies") == Standing("movies", 3, 2, LOADING)
    champions.loaded("base:movies@3")
    assert champions.standing("movies") == Standing("movies", 3, 3)


def test_of_two_bad_promotions_in_a_row_the_last_that_answered_goes_on(
    champions: Champions, registry: Registry, base: Path, add: Callable[..., Registry]
) -> None:
    champions.loaded("base:movies@3")
    assert champions.answering("movies") == 3
    for version in (4, 5):
        add(base, rank=64, champion=True)
        assert registry.alias("movies", "champion") == version
        assert champions.answering("movies") == 3, "the alias previous points to a version that can't be served either"


def test_it_is_logged_once_and_again_when_it_is_over(
    champions: Champions, registry: Registry, base: Path, add: Callable[..., Registry], caplog: pytest.LogCaptureFixture
) -> None:
    champions.tell()
    assert caplog.messages == []
    add(base, rank=64, champion=True)
    for _ in range(3):
        champions.tell()
    [line] = caplog.messages
    assert line.startswith("the champion base:movies@4 can't be served: its rank 64 is above max_lora_rank 32")
    assert line.endswith("base:movies@3 goes on answering")
    registry.rollback("movies")
    champions.tell()
    assert caplog.messages[1:] == ["the champion of base:movies is served again"]


def test_an_adapter_of_another_base_is_no_champion_of_this_endpoint(
    champions: Champions, base: Path, write_base: Callable[..., Path], add: Callable[..., Registry]
) -> None:
    add(write_base("elsewhere", fill=2), "foreign", champion=True)
    assert champions.held_back() == []


def test_a_route_says_what_has_to_be_loaded(
    champions: Champions, base: Path, registry: Registry, add: Callable[..., Registry]
) -> None:
    catalog = build_catalog(ServeArgs(base_model=str(base), registry=str(registry.root)))
    router = Router(catalog, champions=champions)
    assert router.route("base:movies") == Route("base:movies@3", "champion")
    champions.loaded("base:movies@3")
    router.route("base:movies")
    add(base, champion=True)
    assert router.route("base:movies") == Route("base:movies@3", "champion", load="base:movies@4")
    assert router.route("base:movies@4") == Route("base:movies@4"), "who asks by number gets that one"


def test_nobody_who_can_answer_is_a_failure_of_the_endpoint_not_of_the_request(
    champions: Champions, base: Path, add: Callable[..., Registry]
) -> None:
    registry = add(base, "large", rank=64, champion=True)
    catalog = build_catalog(ServeArgs(base_model=str(base), registry=str(registry.root), max_lora_rank=8))
    with pytest.raises(RequestError, match="its rank 64 is above max_lora_rank 8") as refused:
        Router(catalog).route("base:large")
    assert (refused.value.status, refused.value.code) == (503, "model_not_served")


def test_a_failed_load_is_known_from_another_process_too() -> None:
    class RayTaskError(NotLoadedError):
        """As Ray makes it: of its own class and of the cause's."""

    wrapped = RuntimeError()
    wrapped.__cause__ = NotLoadedError("x")
    assert is_not_loaded(RayTaskError("x")) and is_not_loaded(wrapped)
    assert not is_not_loaded(ValueError("x"))
