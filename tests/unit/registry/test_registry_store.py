from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.registry.add import Provenance, add_version
from raytune_ft.registry.journal import read_journal
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, read_traffic, set_traffic

HOSTILE = [
    "../../etc", "/abs", "a:b", "..", ".", "", "a" * 300, "movie\u0455", "a/b", "a\\b",
    "a\x00b", "A", "a..b", "a ", "a\n",
]  # fmt: skip


def provenance(base_model: Path, **changes: object) -> Provenance:
    values: dict[str, object] = {
        "base_model": str(base_model), "data_fingerprint": "f" * 64, "form": "prompt_completion", "study": "s",
        "trial": "0001", "command": "a test",
    }  # fmt: skip
    return Provenance(**{**values, **changes})  # type: ignore[arg-type]


def test_versions_count_up_from_one(registry: Registry) -> None:
    assert (registry.adapters(), registry.versions("movies")) == (["movies"], [1, 2, 3])


def test_the_number_of_a_version_that_was_removed_by_hand_is_not_given_again(
    registry: Registry, base_model: Path, write_adapter: Callable[..., Path]
) -> None:
    registry.set_alias("movies", "champion", 3)
    registry.set_alias("movies", "champion", 2)
    shutil.rmtree(registry.path("movies", 3))
    assert add_version(registry, "movies", write_adapter("again"), provenance(base_model)) == 4


def test_a_registry_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert Registry(tmp_path / "none").adapters() == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_and_nothing_is_touched(
    name: str, tmp_path: Path, base_model: Path, write_adapter: Callable[..., Path]
) -> None:
    """Fault 26."""
    registry = Registry(tmp_path / "registry")
    source = write_adapter()
    before = sorted(tmp_path.rglob("*"))
    for attempt in (
        lambda: registry.resolve(name),
        lambda: registry.path(name, 1),
        lambda: registry.versions(name),
        lambda: registry.resolve(f"{name}@1"),
        lambda: registry.resolve(f"{name}@champion"),
        lambda: registry.aliases(name),
        lambda: registry.set_alias(name, "champion", 1),
        lambda: registry.rollback(name),
        lambda: registry.end_canary(name),
        lambda: read_journal(registry, name),
        lambda: read_traffic(registry, name),
        lambda: set_traffic(registry, name, canary(10)),
        lambda: set_traffic(registry, name, None),
        lambda: add_version(registry, name, source, provenance(base_model)),
    ):
        with pytest.raises(InputError):
            attempt()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [*HOSTILE, "previous", "champion.previous", "staging", "3", "chall\u0435nger"])
def test_a_hostile_alias_is_refused_and_nothing_is_touched(registry: Registry, name: str) -> None:
    """Fault 26."""
    registry.set_alias("movies", "champion", 1)
    before = {path: path.stat().st_mtime_ns for path in registry.root.rglob("*")}
    with pytest.raises(InputError):
        registry.set_alias("movies", name, 2)
    if name not in ("3", "previous"):
        with pytest.raises(InputError):
            registry.resolve(f"movies@{name}")
    assert {path: path.stat().st_mtime_ns for path in registry.root.rglob("*") if path.name != ".lock"} == {
        path: time for path, time in before.items() if path.name != ".lock"
    }


@pytest.mark.parametrize(
    "reference",
    ["movies@0", "movies@-1", "movies@1/../2", "movies@", "movies@1@2", "movies@\u0661", "movies@champion@1"],
)
def test_only_a_plain_number_is_a_version(registry: Registry, reference: str) -> None:
    registry.set_alias("movies", "champion", 1)
    with pytest.raises(InputError):
        registry.resolve(reference)


def test_a_reference_names_a_version_by_its_alias(registry: Registry) -> None:
    for alias, version in (("champion", 1), ("champion", 2), ("challenger", 3)):
        registry.set_alias("movies", alias, version)
    found = {which: registry.resolve(f"movies@{which}") for which in ("champion", "challenger", "previous", "3")}
    assert {which: each.version for which, each in found.items()} == {
        "champion": 2, "challenger": 3, "previous": 1, "3": 3,
    }  # fmt: skip
    assert found["challenger"].reference == "movies@3"
    assert registry.resolve("movies") == found["champion"]


def test_the_challengers_moves_leave_the_way_back_alone(registry: Registry) -> None:
    for alias, version in (("champion", 1), ("champion", 2), ("challenger", 1), ("challenger", 3)):
        registry.set_alias("movies", alias, version)
    assert registry.aliases("movies") == {"champion": 2, "previous": 1, "challenger": 3}


def test_an_older_files_way_back_is_read_and_written_anew(registry: Registry) -> None:
    path = registry.root / "movies" / "aliases.json"
    path.write_text('{"champion": 2, "champion.previous": 1}')
    assert registry.resolve("movies@previous").version == 1
    assert registry.rollback("movies") == 1
    assert json.loads(path.read_text()) == {"champion": 1, "previous": 2}


def test_rollback_goes_to_a_named_version_too(registry: Registry) -> None:
    for version in (1, 2, 3):
        registry.set_alias("movies", "champion", version)
    assert registry.rollback("movies", to=1) == 1
    assert registry.aliases("movies") == {"champion": 1, "previous": 3}
    with pytest.raises(RaytuneError, match="champion is 1 already; nothing was changed"):
        registry.rollback("movies", to=1)
    with pytest.raises(InputError, match="no such version"):
        registry.rollback("movies", to=9)


def test_a_link_among_the_adapters_is_not_listed_and_hides_no_other(registry: Registry, tmp_path: Path) -> None:
    (registry.root / "linked").symlink_to(registry.root / "movies")
    (registry.root / "away").symlink_to(tmp_path)
    assert registry.adapters() == ["movies"]
    for name in ("linked", "away"):
        with pytest.raises(IntegrityError):
            read_journal(registry, name)
        with pytest.raises(IntegrityError):
            set_traffic(registry, name, None)


def test_a_link_out_of_the_registry_is_refused(registry: Registry, tmp_path: Path) -> None:
    (registry.root / "linked").symlink_to(registry.root / "movies")
    outside = tmp_path / "outside"
    outside.mkdir()
    (registry.root / "movies" / "9").symlink_to(outside)
    with pytest.raises(IntegrityError):
        registry.resolve("linked@1")
    with pytest.raises(IntegrityError):
        registry.resolve("movies@9")


def test_a_registry_behind_a_link_of_its_own_works(registry: Registry, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(registry.root)
    assert Registry(link).resolve("movies@2").path == registry.root.resolve() / "movies" / "2"


def test_a_name_means_its_champion(registry: Registry) -> None:
    with pytest.raises(InputError, match="has no champion"):
        registry.resolve("movies")
    registry.set_alias("movies", "champion", 2)
    assert (registry.resolve("movies").version, registry.resolve("movies@3").version) == (2, 3)
    assert json.loads((registry.root / "movies" / "aliases.json").read_text()) == {"champion": 2}


def test_rollback_goes_back_and_forth(registry: Registry) -> None:
    registry.set_alias("movies", "champion", 1)
    with pytest.raises(RaytuneError, match="nothing was changed"):
        registry.rollback("movies")
    assert registry.set_alias("movies", "champion", 3) == 1
    assert [registry.rollback("movies"), registry.rollback("movies")] == [1, 3]


def test_setting_the_same_version_twice_keeps_the_way_back(registry: Registry) -> None:
    for version in (1, 2, 2):
        registry.set_alias("movies", "champion", version)
    assert registry.rollback("movies") == 1


def test_an_alias_never_moves_to_a_broken_version(registry: Registry) -> None:
    registry.set_alias("movies", "champion", 1)
    registry.set_alias("movies", "champion", 2)
    weights = registry.path("movies", 1) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        registry.rollback("movies")
    with pytest.raises(IntegrityError):
        registry.set_alias("movies", "champion", 1)
    assert registry.alias("movies", "champion") == 2


def test_a_flipped_byte_is_found(registry: Registry) -> None:
    """Fault 9."""
    path = registry.path("movies", 1)
    weights = path / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors: sha256"):
        verify(path)


def test_a_copied_version_is_not_taken_for_another(registry: Registry) -> None:
    first = registry.path("movies", 1)
    shutil.copytree(first, first.parent / "4")
    with pytest.raises(IntegrityError, match="is that of movies@1"):
        registry.set_alias("movies", "champion", 4)


@pytest.mark.parametrize("change", ["missing", "extra", "link", "half a manifest", "no manifest"])
def test_every_other_change_of_a_version_is_found(registry: Registry, tmp_path: Path, change: str) -> None:
    path = registry.path("movies", 1)
    match change:
        case "missing":
            (path / "README.md").unlink()
        case "extra":
            (path / "adapter_model.bin").write_bytes(b"pickle")
        case "link":
            weights = path / "adapter_model.safetensors"
            weights.rename(tmp_path / "elsewhere")
            weights.symlink_to(tmp_path / "elsewhere")
        case "half a manifest":
            (path / "manifest.json").write_text((path / "manifest.json").read_text()[:50])
        case "no manifest":
            (path / "manifest.json").unlink()
    with pytest.raises(IntegrityError):
        verify(path)


def _add(root: Path, base_model: Path, source: Path) -> None:
    for _ in range(3):
        add_version(Registry(root), "movies", source, provenance(base_model))


def test_processes_that_add_at_once_get_different_versions(
    tmp_path: Path, base_model: Path, write_adapter: Callable[..., Path]
) -> None:
    source, root = write_adapter(), tmp_path / "registry"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add, args=(root, base_model, source)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    registry = Registry(root)
    assert registry.versions("movies") == list(range(1, 13))
    assert [verify(registry.path("movies", version)).version for version in range(1, 13)] == list(range(1, 13))


def test_what_a_killed_promotion_left_is_no_version_and_is_cleaned(
    registry: Registry, base_model: Path, write_adapter: Callable[..., Path]
) -> None:
    left = registry.root / ".incoming" / "movies-killed"
    left.mkdir()
    (registry.root / "movies" / "4").mkdir()
    assert registry.versions("movies") == [1, 2, 3]
    assert add_version(registry, "movies", write_adapter(), provenance(base_model)) == 5
    assert not left.exists()
