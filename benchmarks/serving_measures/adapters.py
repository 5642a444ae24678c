"""Random adapters of the benchmark's base, written as PEFT writes them, and registries of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from measures.inputs import BASE

from raytune_ft.paths import read_json, write_json
from raytune_ft.registry.add import Provenance, add_version
from raytune_ft.registry.store import Registry

SMALL = ("q_proj", "v_proj")
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_STRENGTH = 0.2
"""Standard deviation of lora_B: enough to change every answer."""


def write_adapter(directory: Path, seed: int, rank: int = 4, modules: tuple[str, ...] = SMALL) -> Path:
    """A random adapter, the same for the same seed."""
    import numpy as np
    from safetensors.numpy import save_file

    config = read_json(BASE / "config.json")
    draw = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for module in modules:
            wide_in, wide_out = _shape(config, module)
            name = f"base_model.model.model.layers.{layer}.{_block(module)}.{module}"
            bound = wide_in**-0.5
            tensors[f"{name}.lora_A.weight"] = draw.uniform(-bound, bound, (rank, wide_in)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = draw.normal(0.0, _STRENGTH, (wide_out, rank)).astype(np.float32)
    directory.mkdir(parents=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    write_json(
        directory / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": str(BASE),
            "r": rank,
            "lora_alpha": 4 * rank,
            "lora_dropout": 0.0,
            "target_modules": list(modules),
            "bias": "none",
            "inference_mode": True,
            "init_lora_weights": True,
        },
    )
    return directory


def add_random(registry: Registry, adapter: str, scratch: Path, seed: int, **shape: Any) -> int:
    """A random adapter as the next version of `adapter`."""
    source = write_adapter(scratch / f"{adapter}-{seed}", seed, **shape)
    provenance = Provenance(
        base_model=str(BASE),
        data_fingerprint="none",
        form="prompt_completion",
        study="benchmark",
        trial=str(seed),
        command="benchmarks/serving.py",
    )
    return add_version(registry, adapter, source, provenance)


def _block(module: str) -> str:
    return "mlp" if module in ("gate_proj", "up_proj", "down_proj") else "self_attn"


def _shape(config: dict[str, Any], module: str) -> tuple[int, int]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    return shapes[module]
