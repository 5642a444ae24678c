"""A model directory is served instead of its base only if it has the base's tensors, and all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from raytune_ft.config.experiment import Experiment
from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.methods.weights.base_model import load_base
from raytune_ft.methods.weights.model_check import check_model
from raytune_ft.methods.weights.tuned import tuned_mib, tuned_sha256

DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def model(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def test_a_copy_of_the_base_is_a_model_without_a_rank(model: Path, tiny_llama: Path) -> None:
    facts = check_model(model, str(tiny_llama))
    assert (facts.full, facts.lora_rank, facts.unserved) == (True, 0, None)


def test_weights_in_several_files_are_checked_and_hashed_together(model: Path, tiny_llama: Path) -> None:
    whole, tensors = model / "model.safetensors", load_file(model / "model.safetensors")
    alone, size = tuned_sha256(model), tuned_mib(model)
    whole.unlink()
    for number, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), 1):
        save_file({name: tensors[name] for name in names}, model / f"model-0000{number}-of-00002.safetensors")
    check_model(model, str(tiny_llama))
    assert tuned_mib(model) == pytest.approx(size, rel=0.01)
    both = tuned_sha256(model)
    part = model / "model-00002-of-00002.safetensors"
    part.write_bytes(part.read_bytes()[:-1] + b"\x7f")
    assert len({alone, both, tuned_sha256(model)}) == 3


def test_a_base_may_hold_tensors_that_the_model_does_not_have(model: Path, tiny_llama: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file(tensors | {"model.layers.0.attention.bias": tensors[DOWN].clone()}, model / "model.safetensors")
    check_model(tiny_llama, str(model))


def test_weights_that_the_files_lack_are_not_drawn_at_random(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({name: each for name, each in tensors.items() if name != DOWN}, model / "model.safetensors")
    experiment = Experiment.model_validate(
        {"name": "e", "base_model": str(model), "data": {"train": "t"}, "train": {"dtype": "float32"}}
    )
    with pytest.raises(ValueError, match=f"the files lack {DOWN}; copy them again"):
        load_base(experiment)


def test_a_tied_head_may_stand_in_either(model: Path, tiny_llama: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tied = {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    save_file(tensors | tied, model / "model.safetensors")
    check_model(model, str(tiny_llama))
    check_model(tiny_llama, str(model))


def test_a_model_of_another_shape_or_without_its_parts_is_refused(model: Path, tiny_llama: Path) -> None:
    whole = model / "model.safetensors"
    tensors = load_file(whole)
    save_file(tensors | {DOWN: tensors[DOWN][:, :8].clone()}, whole)
    with pytest.raises(RaytuneError, match=f"{DOWN} is .64, 8., in .*it is of another base"):
        check_model(model, str(tiny_llama))
    save_file(tensors | {"extra.weight": tensors[DOWN].clone()}, whole)
    with pytest.raises(RaytuneError, match=r"has no extra.weight"):
        check_model(model, str(tiny_llama))
    whole.write_bytes(whole.read_bytes()[:-4])
    with pytest.raises(IntegrityError, match="truncated"):
        check_model(model, str(tiny_llama))
    (model / "config.json").unlink()
    with pytest.raises(IntegrityError, match=r"no config\.json"):
        check_model(model, str(tiny_llama))
    whole.unlink()
    with pytest.raises(IntegrityError, match=r"holds no model\.safetensors"):
        check_model(model, str(tiny_llama))
    with pytest.raises(IntegrityError, match="holds no weights"):
        tuned_sha256(model)


def test_the_head_is_given_rows_side_by_side(tiny_llama: Path) -> None:
    """The last positions of several rows lie apart; for a frozen head PyTorch would copy its weights once a row."""
    experiment = Experiment.model_validate(
        {"name": "e", "base_model": str(tiny_llama), "data": {"train": "t"}, "train": {"dtype": "float32"}}
    )
    model = load_base(experiment).requires_grad_(False)
    seen = []
    model.get_output_embeddings().register_forward_pre_hook(lambda head, inputs: seen.append(inputs[0]))
    model(input_ids=torch.zeros((3, 7), dtype=torch.long), logits_to_keep=2)
    assert seen[0].shape[:2] == (3, 2) and seen[0].is_contiguous()
