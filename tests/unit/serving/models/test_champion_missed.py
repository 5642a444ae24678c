"""A champion that can't answer is missed, whatever broke: its adapter never becomes one that does not exist."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.registry.journal import Move
from raytune_ft.registry.past_champions import past_champions
from raytune_ft.registry.store import Registry
from raytune_ft.serving.models.catalog import UnknownModelError, build_catalog
from raytune_ft.serving.models.served_versions import ServedVersions
from raytune_ft.serving.openai_errors import RequestError
from raytune_ft.serving.settings import ServeArgs


@pytest.fixture
def registry(base: Path, add: Callable[..., Registry]) -> Registry:
    """`movies`: champion 1."""
    return add(base, champion=True)


def start(base: Path, registry: Registry, **options: object) -> ServedVersions:
    """An ingress that has just started, and has loaded nothing."""

    async def load(model: str) -> None: ...

    args = ServeArgs(base_model=str(base), registry=str(registry.root), max_lora_rank=16, **options)  # type: ignore[arg-type]
    return ServedVersions(build_catalog(args), load)


def ask(versions: ServedVersions, model: str = "base:movies") -> str:
    async def asked() -> str:
        await versions.listed()  # which looks at the registry anew
        return (await versions.route(model, None)).model

    return asyncio.run(asked())


def refused(versions: ServedVersions, model: str = "base:movies") -> str:
    with pytest.raises(RequestError) as found:
        ask(versions, model)
    assert (found.value.status, found.value.code) == (503, "model_not_served")
    return str(found.value)


def test_a_start_behind_two_bad_promotions_falls_back_on_an_earlier_champion(
    base: Path, registry: Registry, add: Callable[..., Registry]
) -> None:
    add(base, champion=True)
    add(base)  # nobody's champion ever
    for _ in range(2):
        add(base, rank=64, champion=True)
    assert registry.aliases("movies") == {"champion": 5, "previous": 4}
    versions = start(base, registry)
    assert ask(versions) == "base:movies@2"
    [held] = versions.detail()["held_back"]
    assert (held["champion"], held["answering"]) == ("base:movies@5", "base:movies@2")


def test_a_journal_that_is_broken_takes_nothing_but_the_fallback(
    base: Path, registry: Registry, add: Callable[..., Registry]
) -> None:
    for _ in range(2):
        add(base, rank=64, champion=True)
    (registry.root / "movies" / "journal.jsonl").write_text("{\n{\n")
    versions = start(base, registry)
    assert "rank 64 is above max_lora_rank 16" in refused(versions)
    assert ask(versions, "base:movies@1") == "base:movies@1"


def test_past_champions_are_those_that_no_rollback_left() -> None:
    moves = [
        Move("promote", "champion", None, 1),
        Move("promote", "challenger", None, 7),
        Move("canary_end", "champion", 1, 2),
        Move("promote", "champion", 2, 3),
        Move("rollback", "champion", 3, 2),
        Move("promote", "champion", 2, 4),
        Move("not_carried_out", "champion", 2, 4),
        Move("traffic", None, {"x": 1}, None),
        Move("promote", "champion", 2, 5),
    ]
    assert past_champions(moves) == (2, 1)
    assert past_champions([]) == ()


@pytest.mark.parametrize("before_start", [True, False])
def test_an_only_version_whose_manifest_breaks_is_503_and_told(
    base: Path, registry: Registry, before_start: bool
) -> None:
    def break_it() -> None:
        (registry.root / "movies" / "1" / "manifest.json").write_text("{broken")

    if before_start:
        break_it()
    versions = start(base, registry)
    if not before_start:
        break_it()
    assert "its manifest is missing or can't be read" in refused(versions)
    [held] = versions.detail()["held_back"]
    assert (held["champion"], held["answering"]) == ("base:movies@1", None)


def test_aliases_that_vanish_go_on_and_after_a_start_are_503_and_told(base: Path, registry: Registry) -> None:
    versions = start(base, registry)
    (registry.root / "movies" / "aliases.json").unlink()
    assert ask(versions) == "base:movies@1"
    versions = start(base, registry)
    assert "its aliases can't be read" in refused(versions)
    assert [each["champion"] for each in versions.detail()["held_back"]] == ["base:movies@champion"]
    assert ask(versions, "base:movies@1") == "base:movies@1"


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_so_are_aliases_that_are_broken(base: Path, registry: Registry, text: str) -> None:
    (registry.root / "movies" / "aliases.json").write_text(text)
    assert "its aliases can't be read" in refused(start(base, registry))


def test_an_adapter_without_a_champion_ever_or_taken_away_is_unknown(
    base: Path, registry: Registry, add: Callable[..., Registry]
) -> None:
    add(base, "fresh")
    versions = start(base, registry)
    for model in ("base:fresh", "base:none"):
        with pytest.raises(UnknownModelError):
            ask(versions, model)
    (registry.root / "movies").rename(registry.root.parent / "elsewhere")
    with pytest.raises(UnknownModelError):
        ask(versions)
    assert versions.detail()["held_back"] == []


def test_what_was_not_asked_for_is_not_missed(base: Path, registry: Registry, add: Callable[..., Registry]) -> None:
    add(base, "other", champion=True)
    (registry.root / "other" / "1" / "manifest.json").write_text("{broken")
    versions = start(base, registry, adapters=("movies",))
    assert versions.detail()["held_back"] == []
    with pytest.raises(UnknownModelError):
        ask(versions, "base:other")
