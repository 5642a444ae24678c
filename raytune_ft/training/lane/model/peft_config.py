"""Makes PEFT's `adapter_config.json` without importing PEFT, which takes a second. Read against peft 0.21."""

from __future__ import annotations

from typing import Any

from raytune_ft.training.lane.model.adapter import Adapter


def peft_config(adapter: Adapter, base_model: str) -> dict[str, Any]:
    """Returns what PEFT's LoraConfig saves for such an adapter; targets are the last parts of the modules' paths."""
    method = adapter.method
    names = sorted({each.name for each in adapter.projections})
    short = sorted({name.rpartition(".")[2] for name in names})
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": method.r,
        "lora_alpha": method.alpha,
        "lora_dropout": method.dropout,
        "use_rslora": method.use_rslora,
        "target_modules": method.target_modules if isinstance(method.target_modules, list) else short,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
    }
