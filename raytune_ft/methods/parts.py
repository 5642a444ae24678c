"""What a method's functions take and give; every method's module has the functions of `MethodRoom`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from raytune_ft.config.experiment import Experiment
from raytune_ft.data.safetensors_header import TensorInfo
from raytune_ft.methods.weights.adapter_check import AdapterFacts


class MethodRoom(Protocol):
    """The functions of a method's module."""

    def load(self, experiment: Experiment) -> Any:
        """Returns the base as it is trained on or beside: a transformers model in main memory."""

    def adapter(self, method: Any) -> Any | None:
        """Returns PEFT's config of the adapter that is trained; None where the model itself is."""

    def parameters(self, method: Any, tensors: Mapping[str, TensorInfo]) -> int:
        """Returns how many weights are trained, from the headers of the base's files."""

    def base_bytes(self, tensors: Mapping[str, TensorInfo], width: int) -> int:
        """Returns the bytes of the base in training, where a weight takes `width` bytes in `train.dtype`."""

    def flops(self) -> int:
        """Returns the floating-point operations of a training step for each weight of the base and token."""

    def check(self, directory: Path, base_model: str, *, may_be_merged: bool) -> AdapterFacts:
        """Checks what a trial left, reading JSON and safetensors headers alone.

        Raises:
            IntegrityError: A file is missing, truncated or not safetensors.
            RaytuneError: It is of another base, or can't be served.
        """

    def words(self, config: Mapping[str, Any]) -> str:
        """Returns what was trained, as a line of the card; `config` is adapter_config.json, empty for a model."""
