"""Loading the frozen base."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.experiment import Experiment


def load_base(experiment: Experiment, attn_implementation: str | None = None) -> Any:
    """The base from safetensors, in bfloat16 with `train.bf16`, else float32; its cache is off."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        experiment.base_model,
        dtype=torch.bfloat16 if experiment.train.bf16 else torch.float32,
        attn_implementation=attn_implementation or experiment.train.attn_implementation,
        trust_remote_code=experiment.trust_remote_code,
        use_safetensors=True,
    )
    model.config.use_cache = False
    return model
