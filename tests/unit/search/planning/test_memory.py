"""What a worker holds in memory, out of the headers of the base's files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.load import load_experiment
from raytune_ft.data.safetensors_header import read_header
from raytune_ft.errors import InputError
from raytune_ft.execution.runner import choose_runner
from raytune_ft.methods.low_rank import lora_parameters
from raytune_ft.search.planning.memory.weights import WorkerMemory, worker_memory

R8 = 2 * 8 * (64 + 64 + 64 + 32 + 64 + 32 + 64 + 64 + 64 + 128 + 64 + 128 + 128 + 64)  # q k v o gate up down, 2 layers


@pytest.fixture
def memory(toy_experiment):
    def read(**changes: Any) -> WorkerMemory | None:
        experiment = load_experiment(toy_experiment(**changes))
        return worker_memory(experiment, choose_runner(experiment).runner)

    return read


@pytest.fixture
def model(tiny_llama: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize(
    "target_modules", ["all-linear", ["q_proj", "v_proj"], r"model\.layers\.1\.mlp\.(up|down)_proj", ["embed_tokens"]]
)
def test_an_adapters_weights_are_those_that_peft_makes(tiny_llama: Path, target_modules: Any) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=target_modules))
    trainable = sum(each.numel() for each in adapted.parameters() if each.requires_grad)
    tensors = read_header(tiny_llama / "model.safetensors")
    assert lora_parameters(tensors, 4, target_modules) == trainable > 0


def test_a_lane_in_float32(memory, tiny_llama: Path) -> None:
    tensors = read_header(tiny_llama / "model.safetensors").values()
    weights = sum(each.shape[0] * (each.shape[1] if len(each.shape) > 1 else 1) for each in tensors)
    assert memory() == WorkerMemory(
        base_bytes=4 * weights,
        base_shared=True,
        adapter_parameters=R8,
        adapter_bytes=4 * R8,
        gradient_bytes=4 * R8,
        optimizer_bytes=12 * R8,
        optimizer_on_host=False,
    )


def test_ddp_without_a_lane_keeps_no_second_copy_of_the_weights(memory) -> None:
    assert memory(runner={"type": "isolated"}).optimizer_bytes == 8 * R8


def test_bfloat16_halves_the_base_and_gives_the_lanes_adapter_a_working_copy(memory) -> None:
    whole, half = memory(), memory(train={"dtype": "bfloat16", "max_steps": 4})
    assert (half.base_bytes, half.adapter_bytes) == (whole.base_bytes // 2, 6 * R8)
    assert not half.base_shared  # the files hold float32, so each process converts for itself
    assert memory(train={"dtype": "bfloat16", "max_steps": 4}, runner={"type": "isolated"}).adapter_bytes == 4 * R8


def test_the_largest_adapter_of_the_space_counts(memory) -> None:
    parameters = {"method.r": {"choice": [4, 32, 16]}, "method.target_modules": {"choice": [["q_proj"], "all-linear"]}}
    search = {"space": {"parameters": parameters}, "scheduler": {"type": "none"}}
    assert memory(search=search).adapter_parameters == 4 * R8


def test_a_full_fine_tune_moves_float32_weights_with_their_gradient_and_two_moments(memory) -> None:
    full, frozen = memory(method={"type": "full"}), memory()
    weights = frozen.base_bytes // 4
    assert full == WorkerMemory(
        base_bytes=4 * weights,
        base_shared=False,
        full=True,
        adapter_parameters=weights,
        adapter_bytes=0,
        gradient_bytes=4 * weights,
        optimizer_bytes=8 * weights,
        optimizer_on_host=False,
    )
    half = memory(method={"type": "full"}, train={"dtype": "bfloat16", "max_steps": 4})
    assert (half.base_bytes, half.adapter_bytes, half.gradient_bytes) == (4 * weights, 2 * weights, 4 * weights)
    sharded = {"workers": 2, "strategy": {"type": "deepspeed", "zero_stage": 3}}
    third = memory(method={"type": "full"}, train={"dtype": "bfloat16", "max_steps": 4}, resources=sharded)
    assert (third.base_bytes, third.gradient_bytes, third.optimizer_bytes) == (weights, weights, 6 * weights)
    pair = memory(method={"type": "full"}, resources={"workers": 2})
    assert pair.gradient_bytes == 8 * weights  # once more in DDP's buckets
    back = {"space": {"parameters": {"method.type": {"choice": ["lora"]}}}, "scheduler": {"type": "none"}}
    assert memory(method={"type": "full"}, search=back).adapter_parameters == 2 * R8  # LoRA's own rank is 16
    searched = {
        "method.type": {"choice": ["lora", "full"]},
        "method.r": {"choice": [4, 8], "when": {"method.type": "lora"}},
    }
    assert memory(search={"space": {"parameters": searched}, "scheduler": {"type": "none"}}) == full


@pytest.mark.parametrize(
    ("runner", "stage", "base", "gradient"),
    [("isolated", 1, 1, 1), ("isolated", 2, 1, 2), ("isolated", 3, 2, 2), ("lane", 1, 1, 1), ("lane", 2, 1, 1)],
)
def test_zero_shards_over_the_workers(memory, runner: str, stage: int, base: int, gradient: int) -> None:
    whole = memory()
    offload = stage == 3
    strategy = {"type": "deepspeed", "zero_stage": stage, "offload_optimizer": offload}
    sharded = memory(resources={"workers": 2, "strategy": strategy}, runner={"type": runner})
    assert sharded.base_bytes == whole.base_bytes // base
    assert sharded.gradient_bytes == whole.gradient_bytes // gradient
    assert sharded.optimizer_bytes == whole.optimizer_bytes // 2
    assert sharded.optimizer_on_host == offload


def test_a_gpu_or_an_unshared_base_is_not_shared(memory) -> None:
    assert not memory(resources={"gpus_per_worker": 1}).base_shared
    assert not memory(runner={"type": "lane", "share_base": False}).base_shared


def test_a_tied_head_that_the_file_repeats_counts_once_and_gets_no_adapter(memory, model: Path) -> None:
    from safetensors.torch import load_file, save_file

    before = memory(base_model=str(model))
    tensors = load_file(model / "model.safetensors")
    head = {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    save_file(tensors | head, model / "model.safetensors")
    assert memory(base_model=str(model)) == before
    change_config(model, tie_word_embeddings=False)
    untied = memory(base_model=str(model))
    assert untied.base_bytes == before.base_bytes + 4 * head["lm_head.weight"].numel()
    assert untied.adapter_parameters == before.adapter_parameters


def change_config(model: Path, **values: Any) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("odd", [{"quantization_config": {"quant_method": "gptq"}}, {"num_local_experts": 8}])
def test_no_adapter_is_counted_where_the_files_do_not_tell(memory, model: Path, odd: dict[str, Any]) -> None:
    change_config(model, **odd)
    found = memory(base_model=str(model), runner={"type": "isolated"})
    assert found.base_bytes > 0
    assert (found.adapter_parameters, found.adapter_bytes, found.optimizer_bytes) == (None, None, None)


def test_shards_are_added_and_a_missing_one_leaves_the_memory_unknown(memory, model: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = memory(base_model=str(model))
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, model / file)
    save_file(tensors, model / "consolidated.safetensors")  # the same weights again, which transformers does not load
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert memory(base_model=str(model)) == whole
    (model / "a.safetensors").unlink()
    assert memory(base_model=str(model)) is None


def test_a_truncated_file_is_an_input_error(memory, model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"^base_model: .*truncated"):
        memory(base_model=str(model))
