"""Linear layers that all trials share: one frozen product over all rows, plus each trial's own LoRA matrices.

Layers with the same input, such as the three of attention, are computed together if every trial adapts all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from raytune_ft.training.lane.model.pack import Current, Pack
from raytune_ft.training.lane.model.products import Layer, adapted

SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of sibling modules that their parent calls one after the other on the same tensor."""


class LoraLinear(nn.Module):
    """A frozen linear module that adds the products of the current pack's adapters.

    Args:
        linear: The module to replace.
        name: The module's path in the base.
        current: Holds the current pack; shared by all layers of the base.
    """

    def __init__(self, linear: nn.Linear, name: str, current: Current) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.name, self._current = name, current
        self._siblings: Siblings | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module with the pack's adapters, [..., inputs] -> [..., outputs]."""
        pack = self._current.pack
        parts = pack.parts(self.name) if pack else []
        if pack is None or not parts:
            return nn.functional.linear(x, self.weight, self.bias)
        if self._siblings is not None and (ready := self._siblings.output(self, x, pack)) is not None:
            return ready
        return outputs(x, [self], pack)[0]


class Siblings:
    """Layers with the same input: the first that is called computes the outputs of all, and the others return theirs.

    Outputs that are not fetched yet are kept in the pack, so that they are freed with it even if memory runs out.

    Args:
        layers: The layers in the order in which they are called.
    """

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self._layers = layers

    def output(self, layer: LoraLinear, x: torch.Tensor, pack: Pack) -> torch.Tensor | None:
        """Returns the layer's output, or None if the layer has to be computed alone."""
        of, ready = pack.ready.pop(id(self), (None, {}))
        if of is not x or layer.name not in ready:
            if layer is not self._layers[0] or not self._alike(pack):
                return None
            ready = {each.name: y for each, y in zip(self._layers, outputs(x, self._layers, pack), strict=True)}
        y = ready.pop(layer.name)
        if ready:
            pack.ready[id(self)] = (x, ready)
        return y

    def _alike(self, pack: Pack) -> bool:
        """Tells whether the same trials adapt all layers with the same input; dropout makes the inputs differ."""
        if pack.drops:
            return False
        first, *others = ([part[:2] for part in pack.parts(each.name)] for each in self._layers)
        return all(each == first for each in others)


def join_siblings(linears: dict[str, LoraLinear]) -> None:
    """Joins layers that have the same parent and whose names are together in SAME_INPUT."""
    for name in linears:
        parent, _, child = name.rpartition(".")
        for names in SAME_INPUT:
            layers = [linears[path] for each in names if (path := f"{parent}.{each}") in linears]
            if child == names[0] and len(layers) == len(names):
                siblings = Siblings(layers)
                for layer in layers:
                    layer._siblings = siblings


def outputs(x: torch.Tensor, layers: Sequence[LoraLinear], pack: Pack) -> list[torch.Tensor]:
    """Returns each layer's output with the pack's adapters, [..., inputs] -> [..., outputs]."""
    flat = x.reshape(-1, x.shape[-1])
    products = [Layer(each.weight, each.bias, pack.parts(each.name)) for each in layers]
    ys = adapted(flat, products, pack, pack.dropout(layers[0].name, flat))
    return [y.view(*x.shape[:-1], -1) for y in ys]
