"""vLLM's LoRA on a CPU, corrected: a token that belongs to no adapter gets none. Read against vLLM 0.29.0.

There such a token has the index -1, and its torch ops take that for the last slot: in one batch with an adapter's
requests, the base's own were answered by the adapter in that slot (vllm-project/vllm pull request 48421, open). The
kernels for GPUs leave such tokens alone.
"""

from __future__ import annotations

import importlib
from typing import Any


class NoAdapterNoChange:
    """Given to vLLM as `worker_extension_cls`: each worker imports it, and is corrected by that."""


def correct() -> None:
    """Makes the shrink half of an adapter's product zero where there is no adapter; the other half then adds zero."""
    # By name: the packages say nothing of what these modules share.
    lora_ops: Any = importlib.import_module("vllm.lora.ops.torch_ops.lora_ops")
    punica_cpu: Any = importlib.import_module("vllm.lora.punica_wrapper.punica_cpu")
    shrink = lora_ops.bgmv_shrink
    if getattr(shrink, "leaves_base_alone", False):
        return

    def corrected(
        inputs: Any, lora_a_weights: Any, output_tensor: Any, lora_indices_tensor: Any, scaling: float = 1.0
    ) -> None:
        shrink(inputs, lora_a_weights, output_tensor, lora_indices_tensor, scaling)
        output_tensor.masked_fill_((lora_indices_tensor < 0).unsqueeze(1), 0.0)

    vars(corrected)["leaves_base_alone"] = True
    lora_ops.bgmv_shrink = corrected  # sgmv_shrink looks it up there
    punica_cpu.bgmv_shrink = corrected


correct()
