"""Merged versions: which of them an endpoint has an engine for, and how that is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.cluster.serve_file import for_cluster
from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.registry.store import Registry
from raytune_ft.serving.app import engine_settings
from raytune_ft.serving.local.session import check_gpus
from raytune_ft.serving.models.catalog import Catalog, UnknownModelError, build_catalog
from raytune_ft.serving.settings import ServeArgs

Write = Callable[..., Path]
Add = Callable[..., Registry]


@pytest.fixture
def registry(base: Path, add: Add) -> Registry:
    """`movies`: an adapter, and a merged champion."""
    add(base, rank=8)
    return add(base, rank=16, champion=True, merged=True)


def args_of(base: Path, registry: Registry, **options: Any) -> ServeArgs:
    return ServeArgs(base_model=str(base), registry=str(registry.root), **options)


def catalog_of(base: Path, registry: Registry, **options: Any) -> Catalog:
    return build_catalog(args_of(base, registry, **options))


def test_without_an_engine_it_is_not_served_and_the_reason_is_told(base: Path, registry: Registry) -> None:
    catalog = catalog_of(base, registry)
    assert [model.id for model in catalog.listed()] == ["base", "base:movies@1"]
    for model in ("base:movies", "base:movies@2"):
        with pytest.raises(UnknownModelError, match="is a model of its own without an engine here"):
            catalog.concrete(model)
    assert catalog.without_engine() == ["movies@2"]
    assert catalog.max_lora_rank == 32, "what is merged needs no slot"


@pytest.mark.parametrize("reference", ["movies", "movies@champion", "movies@2"])
def test_with_an_engine_it_is_served_beside_the_base(base: Path, registry: Registry, reference: str) -> None:
    catalog = catalog_of(base, registry, merged=(reference,))
    assert catalog.engines == ("base", "base:movies@2")
    assert catalog.concrete("base:movies") == "base:movies@2"
    assert catalog.without_engine() == []
    listed = {model.id: model.metadata for model in catalog.listed()}
    assert set(listed) == {"base", "base:movies", "base:movies@champion", "base:movies@1", "base:movies@2"}
    assert (listed["base:movies@1"]["merged"], listed["base:movies@2"]["merged"]) == (False, True)


def test_its_engine_is_started_with_its_files_and_without_adapters(base: Path, registry: Registry) -> None:
    args = args_of(base, registry, merged=("movies",))
    catalog = build_catalog(args)
    own = engine_settings(args, catalog, 0, "base:movies@2")
    assert own["model_loading_config"]["model_source"] == str(registry.path("movies", 2))
    assert own["model_loading_config"]["model_id"] == "base:movies@2"
    assert own["lora_config"] is None and "enable_lora" not in own["engine_kwargs"]
    assert engine_settings(args, catalog, 0)["engine_kwargs"]["enable_lora"]


def test_a_flipped_byte_is_refused_before_an_engine_starts(base: Path, registry: Registry) -> None:
    args = args_of(base, registry, merged=("movies",))
    weights = registry.path("movies", 2) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="sha256"):
        engine_settings(args, build_catalog(args), 0, "base:movies@2")


def test_a_champion_that_moved_on_leaves_the_engine_its_version(base: Path, registry: Registry) -> None:
    catalog = catalog_of(base, registry, merged=("movies",))
    registry.set_alias("movies", "champion", 1)
    assert catalog.concrete("base:movies") == "base:movies@1"
    assert catalog.concrete("base:movies@2") == "base:movies@2"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"merged": ("movies@1",)}, "is an adapter, which the base's engine answers for"),
        ({"merged": ("movies@9",)}, "no such version"),
        ({"merged": ("news",)}, "has no champion"),
        ({"merged": ("movies",), "adapters": ("tweets",)}, "is not among the adapters"),
        ({"merged": ("movies",), "registry": None}, "need a registry"),
    ],
)
def test_what_cant_have_an_engine_is_refused(
    base: Path, registry: Registry, add: Add, options: dict[str, Any], reason: str
) -> None:
    add(base, "tweets", champion=True)
    with pytest.raises(InputError, match=reason):
        build_catalog(ServeArgs(**{"base_model": str(base), "registry": str(registry.root), **options}))


def test_one_of_another_base_is_refused(base: Path, registry: Registry, write_base: Write) -> None:
    other = write_base("other", fill=9)
    with pytest.raises(InputError, match="serve it with its own base"):
        catalog_of(other, registry, merged=("movies",))


def test_a_cluster_is_told_the_number_so_that_a_new_champion_is_news(base: Path, registry: Registry) -> None:
    args, _ = for_cluster(args_of(base, registry, merged=("movies",)))
    assert args.merged == ("movies@2",)


@pytest.mark.parametrize(
    ("options", "there", "needed"),
    [
        ({"merged": ("movies",)}, 1, 2),
        ({"merged": ("movies", "news@2"), "replicas": 2}, 5, 6),
        ({"merged": ("movies",), "gpus": 2}, 3, 4),
        ({"gpus": 1}, 0, 1),
    ],
)
def test_engines_that_would_wait_for_gpus_without_end_are_refused(
    options: dict[str, Any], there: int, needed: int
) -> None:
    args = ServeArgs(base_model="base", **options)
    check_gpus(args, needed)
    with pytest.raises(InputError, match=f"need {needed} GPUs, and this machine has {there}"):
        check_gpus(args, there)


@pytest.mark.parametrize("options", [{}, {"merged": ("movies",)}])
def test_without_a_gpu_engines_run_on_the_cpu(options: dict[str, Any]) -> None:
    check_gpus(ServeArgs(base_model="base", **options), 0)
