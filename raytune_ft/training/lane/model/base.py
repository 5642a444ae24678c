"""The frozen base of a lane, which is loaded once and whose linear modules work with any trial's adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raytune_ft.config.attention import Kernel, lane_kernel
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.methods.lora import Lora
from raytune_ft.config.target_modules import names
from raytune_ft.config.training import LaneStep
from raytune_ft.methods.weights.base_model import load_base
from raytune_ft.training.lane.model import attention
from raytune_ft.training.lane.model.adapter import Adapter, Projection
from raytune_ft.training.lane.model.fused import fuse
from raytune_ft.training.lane.model.lora import LoraLinear, join_siblings
from raytune_ft.training.lane.model.pack import Current, Pack
from raytune_ft.training.lane.model.weights_copy import forget, weights_in
from raytune_ft.training.lane.packing.layout import Layout


@dataclass
class Base:
    """A causal language model whose weights never change.

    Attributes:
        model: transformers' model, with a LoraLinear in place of each linear module except the head.
        projections: These modules, in the model's order.
        current: Holds the pack that they currently compute.
        kernel: The attention kernel.
        device: The model's device.
        dtype: Dtype of the weights.
        grouped: Whether the adapters of several trials are multiplied at once; see `products`.
    """

    model: Any
    projections: tuple[Projection, ...]
    current: Current
    kernel: Kernel
    device: str
    dtype: torch.dtype
    grouped: bool

    def hidden_states(self, pack: Pack) -> torch.Tensor:
        """Returns the last layer's output for each token of the pack, [T, hidden]."""
        layout: Layout = pack.layout
        embedded = self.model.get_input_embeddings()(layout.input_ids[None])
        if torch.is_grad_enabled():
            embedded.requires_grad_()  # so that a backward pass reaches the first layer's adapters
        self.current.pack = pack
        try:
            output = self.model.base_model(
                inputs_embeds=embedded,
                position_ids=layout.positions[None],
                use_cache=False,
                layout=layout,
                kernel=self.kernel,
            )
        finally:
            if not self.model.is_gradient_checkpointing:  # otherwise the layers run again in the backward pass
                self.current.pack = None
        hidden: torch.Tensor = output.last_hidden_state[0]
        return hidden

    def head(self) -> torch.Tensor:
        """Returns the output embeddings, [vocabulary, hidden]."""
        weight: torch.Tensor = self.model.get_output_embeddings().weight
        return weight

    def targets(self, target_modules: str | list[str]) -> list[Projection]:
        """Returns the projections that match PEFT's `target_modules`: `all-linear`, a pattern for the path, or names.

        Raises:
            ValueError: No projection matches.
        """
        if target_modules == "all-linear":
            return list(self.projections)
        found = [each for each in self.projections if names(target_modules, each.name)]
        if not found:
            known = sorted({each.name.rpartition(".")[2] for each in self.projections})
            raise ValueError(
                f"method.target_modules {target_modules} names no module of the base; it has {', '.join(known)}"
            )
        return found

    def adapter(self, experiment: Experiment) -> Adapter:
        """Returns a new adapter, initialised from the experiment's seed."""
        method = experiment.method
        assert isinstance(method, Lora)  # the only one whose facts do not refuse lanes
        return Adapter(self.targets(method.target_modules), method, experiment.seed, self.dtype, self.device)


def load_lane_base(
    experiment: Experiment, step: LaneStep, *, share: bool, may_copy: bool = True, device: str = "cpu"
) -> Base:
    """Loads the base and replaces its linear modules by LoraLinear.

    Args:
        experiment: The experiment, which names the base and its dtype.
        step: Switches of the training step.
        share: On a CPU, map the weights from files, so that the processes of a node share one copy in memory.
        may_copy: Write a copy to map if the base's own files have another dtype and there is no copy yet.
        device: `cpu` or `cuda`.

    Raises:
        ValueError: The experiment asks for a flash kernel, and PyTorch has none for this base on this device.
    """
    attention.register()
    model = load_base(experiment, attention.NAME)
    model.requires_grad_(False)
    model.eval()  # no dropout in the base
    if share and device == "cpu":
        share_weights(model, Path(experiment.base_model), may_copy=may_copy)
    model.to(device)
    current = Current()
    head = model.get_output_embeddings()
    linears = [(name, each) for name, each in model.named_modules() if isinstance(each, nn.Linear) and each is not head]
    adaptable = {name: LoraLinear(linear, name, current) for name, linear in linears}
    for name, layer in adaptable.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    join_siblings(adaptable)
    if step.fused:
        fuse(model)
    if experiment.train.gradient_checkpointing:
        model.train()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    kernel = lane_kernel(experiment.train.attn_implementation, on_gpu=device != "cpu")
    if kernel == "flash":
        attention.check_flash(model.config.get_text_config(), model.dtype, device)
    projections = tuple(Projection(name, linear.in_features, linear.out_features) for name, linear in linears)
    return Base(model, projections, current, kernel, device, model.dtype, grouped=device != "cpu")


def share_weights(model: Any, directory: Path, *, may_copy: bool) -> int:
    """Calls `map_weights` on the base's files, or on a copy of them in the model's dtype; returns the bytes mapped."""
    from safetensors import SafetensorError

    source = weights_in(directory, model.dtype, may_copy=may_copy)
    if source is None:
        return 0
    try:
        return map_weights(model, source)
    except (OSError, RuntimeError, SafetensorError):  # the copy is damaged, for example after a power cut
        if source == directory:
            raise
        forget(source)
        return map_weights(model, directory)


def map_weights(model: Any, directory: Path) -> int:
    """Replaces the model's tensors by equal ones that are mapped from the safetensors files; returns their bytes.

    A tensor whose dtype or values differ from what transformers loaded is not replaced.
    """
    from safetensors import safe_open

    parameters = dict(model.named_parameters())
    mapped = 0
    for file in sorted(directory.glob("*.safetensors")) if directory.is_dir() else ():
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                parameter = parameters.get(name)
                if parameter is None:
                    continue
                tensor = tensors.get_tensor(name)
                if tensor.dtype == parameter.dtype and torch.equal(tensor, parameter.data):
                    parameter.data = tensor
                    mapped += tensor.nbytes
    return mapped
