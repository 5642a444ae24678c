from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.registry.store import Registry
from raytune_ft.serving.models.capacity import rank_with_room, served_rank
from raytune_ft.serving.models.catalog import Catalog, UnknownModelError, build_catalog
from raytune_ft.serving.models.champion import base_of_champions
from raytune_ft.serving.settings import ServeArgs

Write = Callable[..., Path]
Add = Callable[..., Registry]
LISTED = ["base", "base:movies", "base:movies@champion", "base:movies@1", "base:movies@2"]


@pytest.fixture
def registry(base: Path, add: Add) -> Registry:
    """Two versions of `movies`, the first champion, and one of `news` without an alias."""
    add(base, champion=True)
    add(base)
    return add(base, "news")


def catalog_of(base: Path, registry: Registry, **options: object) -> Catalog:
    return build_catalog(ServeArgs(base_model=str(base), registry=str(registry.root), **options))  # type: ignore[arg-type]


def test_base_champions_and_versions_are_listed(base: Path, registry: Registry) -> None:
    listed = catalog_of(base, registry).listed()
    assert [model.id for model in listed] == [*LISTED, "base:news@1"]
    assert listed[1].metadata["version"] == 1
    assert listed[1].metadata["form"] == "prompt_completion"


def test_an_alias_is_listed_while_it_points_somewhere(base: Path, registry: Registry) -> None:
    catalog = catalog_of(base, registry)
    registry.set_alias("movies", "challenger", 2)
    versions = {model.id: model.metadata.get("version") for model in catalog.listed()}
    assert (versions["base:movies@champion"], versions["base:movies@challenger"]) == (1, 2)
    assert "base:movies@previous" not in versions
    registry.set_alias("movies", "champion", 2)
    versions = {model.id: model.metadata.get("version") for model in catalog.listed()}
    assert (versions["base:movies"], versions["base:movies@previous"]) == (2, 1)


def test_a_listed_version_tells_its_cards_facts(base: Path, registry: Registry) -> None:
    path = registry.path("movies", 1) / "manifest.json"
    manifest = json.loads(path.read_text())
    gain = {"mean": 0.08, "low": 0.05, "high": 0.11, "level": 0.95}
    path.write_text(json.dumps({**manifest, "metrics": {"difference": {"loss": gain, "accuracy": gain}}}))
    told = {model.id: model.metadata for model in catalog_of(base, registry).listed()}["base:movies@1"]
    assert (told["study"], told["trial"], told["lora_rank"], told["forced"]) == ("study", "0001", 2, False)
    assert told["created"].startswith("20")
    assert (told["metric"], told["gain"]) == ("accuracy", {"mean": 0.08, "low": 0.05, "high": 0.11})


def test_an_alias_is_the_version_it_points_to_now(base: Path, registry: Registry) -> None:
    catalog = catalog_of(base, registry)
    assert catalog.concrete("base:movies") == "base:movies@1"
    registry.set_alias("movies", "champion", 2)
    assert catalog.concrete("base:movies") == "base:movies@2"
    assert catalog.load_path("base:movies@2") == registry.root / "movies" / "2"
    assert catalog.concrete("base") == "base"


def test_an_adapter_that_is_promoted_later_is_served_too(base: Path, registry: Registry, add: Add) -> None:
    catalog = catalog_of(base, registry)
    add(base, "tweets", champion=True)
    assert catalog.concrete("base:tweets") == "base:tweets@1"


@pytest.mark.parametrize(
    "model",
    [
        "", "other", "base:", "base:other", "base:news", "base:movies@9", "base:movies@x", "base:../../etc",
        "base:/etc", "base:movies:1", "base:movies@1/../2", "other:movies", "base:m\u043evies", "x" * 100_000,
        "base:" + "x" * 100_000,
    ],
)  # fmt: skip
def test_an_unknown_model_is_refused_in_a_short_line(base: Path, registry: Registry, model: str) -> None:
    """Fault 29."""
    with pytest.raises(UnknownModelError) as refused:
        catalog_of(base, registry).concrete(model)
    assert len(str(refused.value)) < 400
    assert str(registry.root) not in str(refused.value)


def test_an_adapter_of_other_weights_is_not_served(base: Path, write_base: Write, registry: Registry, add: Add) -> None:
    add(write_base("elsewhere", fill=2), "foreign", champion=True)
    catalog = catalog_of(base, registry)
    assert not [model.id for model in catalog.listed() if "foreign" in model.id]
    with pytest.raises(UnknownModelError, match="trained on another base"):
        catalog.concrete("base:foreign")
    with pytest.raises(InputError, match="are others"):
        catalog_of(base, registry, adapters=("foreign",))


def test_only_the_adapters_that_were_asked_for_are_served(base: Path, registry: Registry, add: Add) -> None:
    add(base, "tweets", champion=True)
    catalog = catalog_of(base, registry, adapters=("movies",))
    assert [model.id for model in catalog.listed()] == LISTED
    with pytest.raises(UnknownModelError):
        catalog.concrete("base:tweets")


def test_an_adapter_that_is_asked_for_must_have_a_champion(base: Path, registry: Registry) -> None:
    for name in ("news", "nowhere"):
        with pytest.raises(InputError, match="has no champion"):
            catalog_of(base, registry, adapters=(name,))


def test_the_greatest_rank_leaves_room_for_the_next_winner(base: Path, registry: Registry, add: Add) -> None:
    """Fault 39: the rank-16 winner of a registry of rank 2."""
    before = catalog_of(base, registry)
    assert before.max_lora_rank == 32
    add(base, "larger", rank=16, champion=True)
    assert before.concrete("base:larger") == "base:larger@1"
    told = catalog_of(base, registry, max_lora_rank=8)
    with pytest.raises(UnknownModelError, match="above max_lora_rank 8"):
        told.concrete("base:larger")
    add(base, "large", rank=17, champion=True)
    assert catalog_of(base, registry).max_lora_rank == 64
    assert catalog_of(base, registry, max_lora_rank=200).max_lora_rank == 256


@pytest.mark.parametrize(
    ("greatest", "mib_per_rank", "rank"),
    [(1, 0, 32), (8, 1, 32), (16, 1, 32), (17, 1, 64), (64, 1, 128), (300, 1, 512), (512, 1, 512),
     (8, 100, 8), (8, 40, 16), (64, 10, 64), (16, 10_000, 16)],
)  # fmt: skip
def test_room_is_twice_the_greatest_rank_where_four_slots_of_it_fit(
    greatest: int, mib_per_rank: int, rank: int
) -> None:
    assert rank_with_room(greatest, mib_per_rank << 20) == rank


def test_ranks_are_vllms_own_steps() -> None:
    assert [served_rank(rank) for rank in (1, 2, 8, 9, 129, 300, 512)] == [1, 8, 8, 16, 256, 320, 512]


def test_a_changed_file_is_never_given_to_the_engine(base: Path, registry: Registry) -> None:
    """Fault 9."""
    weights = registry.path("movies", 1) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    with pytest.raises(IntegrityError):
        catalog_of(base, registry).load_path("base:movies@1")


def test_a_broken_manifest_hides_its_version_alone(base: Path, registry: Registry) -> None:
    (registry.path("movies", 2) / "manifest.json").write_text("{")
    assert "base:movies@1" in [model.id for model in catalog_of(base, registry).listed()]
    assert "base:movies@2" not in [model.id for model in catalog_of(base, registry).listed()]


def test_without_a_registry_there_is_the_base_alone(base: Path) -> None:
    catalog = build_catalog(ServeArgs(base_model=str(base), registry=None))
    assert [model.id for model in catalog.listed()] == ["base"]
    with pytest.raises(UnknownModelError):
        catalog.concrete("base:movies")


def test_the_champions_say_which_base_to_serve(base: Path, registry: Registry, write_base: Write, add: Add) -> None:
    assert base_of_champions(registry, []) == str(base)
    add(write_base("elsewhere", fill=2), "foreign", champion=True)
    with pytest.raises(InputError, match="several bases"):
        base_of_champions(registry, [])
    assert base_of_champions(registry, ["movies"]) == str(base)
