"""The linear layers that all trials share: the frozen product once over all rows, each trial's matrices on its own.

Layers that are given the same input, such as attention's three, are computed in one go where every trial adapts them
all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from raytune_ft.training.lane.model.pack import Current, Pack
from raytune_ft.training.lane.model.products import Layer, adapted

SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of a module's children that it calls one after the other on one tensor."""


class LoraLinear(nn.Module):
    """A frozen linear module that adds the current pack's adapters.

    Args:
        linear: The module to stand for.
        name: Its path in the base.
        current: Shared by all layers of the base.
    """

    def __init__(self, linear: nn.Linear, name: str, current: Current) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.name, self._current = name, current
        self._siblings: Siblings | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., inputs] -> [..., outputs]."""
        pack = self._current.pack
        parts = pack.parts(self.name) if pack else []
        if pack is None or not parts:
            return nn.functional.linear(x, self.weight, self.bias)
        if self._siblings is not None and (ready := self._siblings.output(self, x, pack)) is not None:
            return ready
        return outputs(x, [self], pack)[0]


class Siblings:
    """Layers of one input: the first that is asked computes the outputs of all, and the others find theirs.

    What waits for them lies in the pack, and so is gone with the pass, also where that found no memory.

    Args:
        layers: In the order in which they are called.
    """

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self._layers = layers

    def output(self, layer: LoraLinear, x: torch.Tensor, pack: Pack) -> torch.Tensor | None:
        """The layer's output; None where it has to be computed by itself."""
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
        """Whether the same trials adapt all of them, and what they take in is the same: dropout differs by layer."""
        if pack.drops:
            return False
        first, *others = ([part[:2] for part in pack.parts(each.name)] for each in self._layers)
        return all(each == first for each in others)


def join_siblings(linears: dict[str, LoraLinear]) -> None:
    """Makes siblings of the layers that have the same parent, and names that stand together in SAME_INPUT."""
    for name in linears:
        parent, _, child = name.rpartition(".")
        for names in SAME_INPUT:
            layers = [linears[path] for each in names if (path := f"{parent}.{each}") in linears]
            if child == names[0] and len(layers) == len(names):
                siblings = Siblings(layers)
                for layer in layers:
                    layer._siblings = siblings


def outputs(x: torch.Tensor, layers: Sequence[LoraLinear], pack: Pack) -> list[torch.Tensor]:
    """[..., inputs] -> for each layer [..., outputs], with the pack's adapters."""
    flat = x.reshape(-1, x.shape[-1])
    products = [Layer(each.weight, each.bias, pack.parts(each.name)) for each in layers]
    ys = adapted(flat, products, pack, pack.dropout(layers[0].name, flat))
    return [y.view(*x.shape[:-1], -1) for y in ys]
