from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.methods.weights.adapter_check import check_adapter
from raytune_ft.methods.weights.base_weights import base_directory, base_id, base_sha256
from raytune_ft.registry.add import Provenance, add_version
from raytune_ft.registry.store import Registry

Write = Callable[..., Path]


def test_a_whole_adapter_of_this_base_passes(write_adapter: Write, base_model: Path) -> None:
    assert check_adapter(write_adapter(rank=3), str(base_model)).lora_rank == 3


def test_a_pickle_is_refused(write_adapter: Write, base_model: Path) -> None:
    directory = write_adapter()
    (directory / "adapter_model.safetensors").rename(directory / "adapter_model.bin")
    with pytest.raises(IntegrityError, match="a pickle, which can run code"):
        check_adapter(directory, str(base_model))


@pytest.mark.parametrize("keep", [0, 7, 40, -1])
def test_truncated_weights_are_refused(write_adapter: Write, base_model: Path, keep: int) -> None:
    """Fault 9."""
    weights = write_adapter() / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(IntegrityError):
        check_adapter(weights.parent, str(base_model))


@pytest.mark.parametrize("text", ["", '{"r": 8', "[]", '{"r": 8}'])
def test_a_truncated_config_is_refused(write_adapter: Write, base_model: Path, text: str) -> None:
    directory = write_adapter()
    (directory / "adapter_config.json").write_text(text)
    with pytest.raises(IntegrityError):
        check_adapter(directory, str(base_model))


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "loftq"},
        {"rank_pattern": {"q_proj": 4}},
        {"alpha_pattern": {"q_proj": 4}},
        {"peft_type": "IA3"},
        {"r": 0},
        {"r": 513},
        {"r": "8"},
        {"r": True},
    ],
)
def test_what_vllm_cant_serve_is_refused(write_adapter: Write, base_model: Path, change: dict[str, Any]) -> None:
    with pytest.raises(RaytuneError, match=r"can't be served|changed the base"):
        check_adapter(write_adapter(**change), str(base_model))


def test_rslora_and_gaussian_start_are_served(write_adapter: Write, base_model: Path) -> None:
    check_adapter(write_adapter(use_rslora=True, init_lora_weights="gaussian"), str(base_model))


def test_an_adapter_that_names_another_base_is_refused(write_adapter: Write, base_model: Path) -> None:
    with pytest.raises(RaytuneError, match="the adapter's base is"):
        check_adapter(write_adapter(base_model_name_or_path="org/other"), str(base_model))


def test_an_adapter_of_another_width_is_refused_whatever_it_names(write_adapter: Write, write_base: Write) -> None:
    wider = write_base("wider", width=12)
    with pytest.raises(RaytuneError, match="of another base"):
        check_adapter(write_adapter(base_model_name_or_path=None), str(wider))


def test_an_adapter_of_a_deeper_base_is_refused(write_adapter: Write, base_model: Path, safetensors: Write) -> None:
    directory = write_adapter()
    stems = [f"base_model.model.model.layers.{layer}.self_attn.q_proj" for layer in (0, 1)]
    shapes: dict[str, tuple[int, ...]] = {}
    for stem in stems:
        shapes |= {f"{stem}.lora_A.weight": (2, 4), f"{stem}.lora_B.weight": (6, 2)}
    safetensors(directory / "adapter_model.safetensors", shapes)
    with pytest.raises(RaytuneError, match=r"has no model\.layers\.1"):
        check_adapter(directory, str(base_model))


def test_a_tensor_that_is_no_lora_pair_is_refused(write_adapter: Write, base_model: Path, safetensors: Write) -> None:
    directory = write_adapter()
    safetensors(directory / "adapter_model.safetensors", {"base_model.model.lm_head.weight": (6, 4)})
    with pytest.raises(RaytuneError, match=r"lm_head\.weight' can't be served by vLLM"):
        check_adapter(directory, str(base_model))


def test_a_refused_adapter_leaves_no_version(write_adapter: Write, base_model: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    with pytest.raises(RaytuneError):
        add_version(
            registry,
            "movies",
            write_adapter(use_dora=True),
            Provenance(str(base_model), "f", "messages", "s", "t", "c"),
        )
    assert registry.adapters() == []


def test_only_weights_and_a_cleaned_config_are_taken(write_adapter: Write, base_model: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    add_version(registry, "movies", write_adapter(), Provenance(str(base_model), "f", "messages", "s", "t", "c"))
    path = registry.path("movies", 1)
    assert sorted(each.name for each in path.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json",
    ]  # fmt: skip
    assert json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"] == "base-model"
    assert str(tmp_path) not in (path / "README.md").read_text()


def test_equal_weights_hash_equally_wherever_they_lie(write_base: Write) -> None:
    first, copy, other = write_base("one"), write_base("two"), write_base("three", fill=2)
    assert base_sha256(str(first)) == base_sha256(str(copy)) != base_sha256(str(other))


def test_a_base_is_called_by_its_directory_or_its_hub_id(base_model: Path) -> None:
    assert (base_id(str(base_model)), base_id("Qwen/Qwen2.5-0.5B")) == ("base-model", "Qwen--Qwen2.5-0.5B")


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "org/not-in-the-cache-4711", "a/b/c"])
def test_a_base_that_is_nowhere_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError):
        base_directory(name)
