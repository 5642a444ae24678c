"""Corrects vLLM's LoRA on a CPU, and speeds it up. Read against vLLM 0.29.0.

vLLM gives a token without an adapter the slot index -1, which its torch ops for the CPU take for the last slot. In a
batch together with an adapter's requests, the base's own requests were therefore answered by the adapter in that slot
(vllm-project/vllm pull request 48421, open). These ops also copy an adapter's matrices once for every token before
they multiply. Here each adapter multiplies all of its tokens at once, and tokens without an adapter are left alone, as
vLLM's GPU kernels do it.
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
"""Pairs of an adapter slot (-1 for tokens without an adapter) and the indices of the batch's tokens that use it."""


class NoAdapterNoChange:
    """Passed to vLLM as `worker_extension_cls`, so that each worker imports this module, which applies the patch."""


def correct() -> None:
    """Patches vLLM: replaces the adapter products of layers, and masks those of the output head without an adapter."""
    if not all_there(*NAMES, without="in a batch with an adapter's requests, those of the base may be answered by it"):
        return
    # Imported by name: vLLM's type stubs do not cover what this module holds.
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
    """Groups the batch's tokens by adapter slot.

    Args:
        slots: Slot of each token, -1 for none, [tokens].
    """
    found = torch.unique(slots).tolist()
    if len(found) == 1:
        return [(found[0], slice(None))]
    return [(slot, (slots == slot).nonzero()[:, 0]) for slot in found]


def shrink(self: Any, y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, scale: float) -> None:
    """Computes the first half of an adapter's product, `scale * x @ A.T`, into `y`.

    Args:
        self: vLLM's wrapper; its `tokens` say which rows each slot has.
        y: The result, [tokens, rank].
        x: The layer's input, [tokens, inputs].
        a: The A matrices of all slots, [slots, 1, rank, inputs].
        scale: Factor of the product.
    """
    for slot, rows in self.tokens:
        if slot >= 0:
            inner = x[rows].to(y.dtype) @ _matrix(a, slot, y.dtype).T
            y[rows, : inner.shape[1]] = inner.mul_(scale)


def expand_slice(
    self: Any, y: torch.Tensor, x: torch.Tensor, b: torch.Tensor, offset: int, size: int, add_inputs: bool
) -> None:
    """Computes the second half of an adapter's product, `x @ B.T`, and adds it to a slice of `y`.

    Args:
        self: vLLM's wrapper; its `tokens` say which rows each slot has.
        y: The result, [tokens, outputs].
        x: The result of `shrink`, [tokens, rank].
        b: The B matrices of all slots, [slots, 1, `size` or fewer, rank].
        offset: First column of the layer's outputs in `y`, where vLLM fuses several layers.
        size: Number of the layer's outputs.
        add_inputs: Keep the present values of `y` and add to them; otherwise they are zeroed first.
    """
    for slot, rows in self.tokens:
        if not add_inputs:
            y[rows, offset : offset + size] = 0
        if slot >= 0:
            outer = x[rows].to(y.dtype) @ _matrix(b, slot, y.dtype).T
            place = y[:, offset : offset + min(size, outer.shape[1])]
            outer = outer[:, : place.shape[1]]  # the layer or its adapter may be padded while the other is not
            if isinstance(rows, slice):
                place.add_(outer)
            else:
                place.index_add_(0, rows, outer)


def _matrix(stacked: torch.Tensor, slot: int, dtype: torch.dtype) -> torch.Tensor:
    matrix = stacked[slot].to(dtype)
    return matrix[0] if matrix.dim() == 3 else matrix


def _without_missing(bgmv_shrink: Any) -> Any:
    """Wraps vLLM's op so that the first half is zero for tokens without an adapter; the second half then adds zero."""

    def corrected(
        inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, slots: torch.Tensor, scaling: float = 1.0
    ) -> None:
        bgmv_shrink(inputs, weights, output, slots, scaling)
        output.masked_fill_((slots < 0).unsqueeze(1), 0.0)

    return corrected


correct()
