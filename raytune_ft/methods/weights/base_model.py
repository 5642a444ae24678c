"""Loads the base model."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.attention import in_transformers
from raytune_ft.config.experiment import Experiment
from raytune_ft.hardware.here import torch_type
from raytune_ft.lean_imports import import_transformers


def load_base(
    experiment: Experiment, attn_implementation: str | None = None, *, moves: bool = False, quantization: Any = None
) -> Any:
    """Loads the base from safetensors in the dtype of `train.dtype`, with the KV cache off.

    Args:
        experiment: The experiment, which names the base, its dtype and its attention.
        attn_implementation: Attention by transformers' names; by default the experiment's, or `sdpa` if that needs a
            package that is missing.
        moves: Whether an optimizer will update the weights, which are then float32 in any case.
        quantization: transformers' quantization config; by default the weights are loaded as they are.

    Raises:
        ValueError: The files lack weights of the model, which transformers would initialise at random.
    """
    import torch

    import_transformers()
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    load: Any = AutoModelForCausalLM.from_pretrained  # its type hints cover only the model as the result
    model, loaded = load(
        experiment.base_model,
        dtype=torch.float32 if moves else torch_type(experiment.train.number_type),
        attn_implementation=attn_implementation or _attention_here(experiment),
        trust_remote_code=experiment.trust_remote_code,
        use_safetensors=True,
        output_loading_info=True,
        **({"quantization_config": quantization} if quantization is not None else {}),
    )
    if missing := sorted(loaded["missing_keys"]):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{experiment.base_model}: the files lack {missing[0]}{more}; copy them again")
    model.config.use_cache = False
    if (head := model.get_output_embeddings()) is not None:
        head.register_forward_pre_hook(_side_by_side)
    return model


def _attention_here(experiment: Experiment) -> str:
    """Returns the experiment's attention, or `sdpa`, which computes the same, if flash-attn is wanted but missing."""
    from transformers.utils.import_utils import is_flash_attn_2_available

    name = in_transformers(experiment.train.attn_implementation)
    return name if name != "flash_attention_2" or is_flash_attn_2_available() else "sdpa"


def _side_by_side(head: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Makes the head's input contiguous, because PyTorch would otherwise copy a frozen head's weights for each row."""
    return (inputs[0].contiguous(), *inputs[1:])


def placed(model: Any) -> Any:
    """Moves the model to the GPU if there is one."""
    import torch

    return model.to("cuda") if torch.cuda.is_available() else model
