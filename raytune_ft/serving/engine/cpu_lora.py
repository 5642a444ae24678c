"""vLLM's LoRA on a CPU, corrected, and without a copy of an adapter for each token. Read against vLLM 0.29.0.

There a token that belongs to no adapter has the index -1, and the torch ops take that for the last slot: in one batch
with an adapter's requests, the base's own were answered by the adapter in that slot (vllm-project/vllm pull request
48421, open). They also gather the matrices once for every token before they multiply. Here each adapter multiplies all
of its tokens at once, and tokens without one are left alone, as the kernels for GPUs do it.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch

from raytune_ft.private_names import all_there

_MODULE = "vllm.lora.punica_wrapper.punica_cpu"
REPLACED = tuple(f"_{half}{of}" for half in ("shrink", "expand", "expand_slice") for of in ("_prefill", "_decode"))
NAMES = (
    *(f"{_MODULE}:PunicaWrapperCPU.{name}" for name in ("update_metadata", "token_lora_indices", *REPLACED)),
    f"{_MODULE}:bgmv_shrink",
)
Tokens = list[tuple[int, slice | torch.Tensor]]
"""For each slot that tokens of the batch belong to, -1 for none: which tokens these are."""


class NoAdapterNoChange:
    """Given to vLLM as `worker_extension_cls`: each worker imports it, and is corrected by that."""


def correct() -> None:
    """Replaces the products of a layer's adapters, and in those of the output head what a missing adapter adds."""
    if not all_there(*NAMES, without="in a batch with an adapter's requests, those of the base may be answered by it"):
        return
    # By name: the packages say nothing of what these modules share.
    punica_cpu: Any = importlib.import_module(_MODULE)
    wrapper = punica_cpu.PunicaWrapperCPU
    if "tokens" in vars(wrapper):
        return
    update = wrapper.update_metadata

    def update_metadata(self: Any, *args: Any, **kwargs: Any) -> None:
        update(self, *args, **kwargs)
        self.tokens = tokens_of(self.token_lora_indices)

    def expand(self: Any, y: torch.Tensor, x: torch.Tensor, b: torch.Tensor, add_inputs: bool) -> None:
        expand_slice(self, y, x, b, 0, y.shape[1], add_inputs)

    wrapper.tokens = []
    wrapper.update_metadata = update_metadata
    wrapper._shrink_prefill = wrapper._shrink_decode = shrink
    wrapper._expand_prefill = wrapper._expand_decode = expand
    wrapper._expand_slice_prefill = wrapper._expand_slice_decode = expand_slice
    punica_cpu.bgmv_shrink = _without_missing(punica_cpu.bgmv_shrink)


def tokens_of(slots: torch.Tensor) -> Tokens:
    """Each token's slot -> the tokens of each slot."""
    found = torch.unique(slots).tolist()
    if len(found) == 1:
        return [(found[0], slice(None))]
    return [(slot, (slots == slot).nonzero()[:, 0]) for slot in found]


def shrink(self: Any, y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, scale: float) -> None:
    """The first half of an adapter's product.

    Args:
        self: vLLM's wrapper, which knows whose tokens these are.
        y: Where to, [tokens, rank].
        x: [tokens, inputs].
        a: Of all slots, [slots, 1, rank, inputs].
        scale: Of the product.
    """
    for slot, rows in self.tokens:
        if slot >= 0:
            inner = x[rows].to(y.dtype) @ _matrix(a, slot, y.dtype).T
            y[rows, : inner.shape[1]] = inner.mul_(scale)


def expand_slice(
    self: Any, y: torch.Tensor, x: torch.Tensor, b: torch.Tensor, offset: int, size: int, add_inputs: bool
) -> None:
    """The second half.

    Args:
        self: vLLM's wrapper.
        y: Where to, [tokens, outputs].
        x: What `shrink` made, [tokens, rank].
        b: Of all slots, [slots, 1, `size` or fewer, rank].
        offset: Of the layer's outputs in y, where several layers are one.
        size: How many these are.
        add_inputs: Add to what stands in y.
    """
    for slot, rows in self.tokens:
        if not add_inputs:
            y[rows, offset : offset + size] = 0
        if slot >= 0:
            outer = x[rows].to(y.dtype) @ _matrix(b, slot, y.dtype).T
            place = y[:, offset : offset + min(size, outer.shape[1])]
            outer = outer[:, : place.shape[1]]  # a layer may be padded, its adapter not, and the other way round
            if isinstance(rows, slice):
                place.add_(outer)
            else:
                place.index_add_(0, rows, outer)


def _matrix(stacked: torch.Tensor, slot: int, dtype: torch.dtype) -> torch.Tensor:
    matrix = stacked[slot].to(dtype)
    return matrix[0] if matrix.dim() == 3 else matrix


def _without_missing(bgmv_shrink: Any) -> Any:
    """Makes the first half zero where there is no adapter; the other half then adds zero."""

    def corrected(
        inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, slots: torch.Tensor, scaling: float = 1.0
    ) -> None:
        bgmv_shrink(inputs, weights, output, slots, scaling)
        output.masked_fill_((slots < 0).unsqueeze(1), 0.0)

    return corrected


correct()
