"""DeepSpeed's settings for one trial."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import DeepSpeed


def deepspeed_settings(experiment: Experiment) -> dict[str, Any] | None:
    """Returns the value for `TrainingArguments(deepspeed=...)`, or None if the strategy is not DeepSpeed.

    The optimizer is torch's AdamW, which works on CPUs and GPUs alike; `auto` is filled in by transformers.
    """
    strategy = experiment.resources.strategy
    if not isinstance(strategy, DeepSpeed):
        return None
    zero: dict[str, Any] = {"stage": strategy.zero_stage, "contiguous_gradients": True, "overlap_comm": False}
    if strategy.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": experiment.resources.gpus_per_worker > 0}
    if strategy.zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000,
        "wall_clock_breakdown": False,
    }
