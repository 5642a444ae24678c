"""`train:`, `resources:` and `runner:`: how one trial trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictFloat, StrictInt, field_validator

from raytune_ft.config.attention import Attention
from raytune_ft.config.model import Strict
from raytune_ft.config.number_type import NumberType


class Train(Strict):
    """Settings of optimisation, with the names of transformers' TrainingArguments."""

    learning_rate: StrictFloat = Field(2e-4, gt=0.0, le=10.0)
    """Peak learning rate of AdamW; the default is multiplied by the objective's and the method's (docs/methods.md)."""
    per_device_train_batch_size: StrictInt = Field(8, ge=1)
    """Rows of one worker's forward pass."""
    gradient_accumulation_steps: StrictInt = Field(1, ge=1)
    """Forward passes per optimizer step."""
    max_steps: StrictInt = Field(100, ge=1)
    """Optimizer steps of a trial that is never stopped."""
    eval_steps: StrictInt | None = Field(None, ge=1)
    """Steps between evaluations; by default the scheduler's rungs and the last step."""
    per_device_eval_batch_size: StrictInt = Field(16, ge=1)
    """Rows of one worker's forward pass in evaluation; it affects memory and time, but not `eval_loss`."""
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "linear", "cosine", "warmup_stable_decay"] = (
        "constant_with_warmup"
    )
    """Learning rate schedule. With early stopping use a constant one, which does not depend on the trial's length, or
    `warmup_stable_decay`, which is constant until the last fifth of `max_steps`."""
    warmup_steps: StrictInt = Field(0, ge=0)
    """Steps of linear warmup."""
    weight_decay: StrictFloat = Field(0.0, ge=0.0)
    """AdamW's weight decay."""
    max_grad_norm: StrictFloat = Field(1.0, gt=0.0)
    """Gradients are clipped to this norm."""
    dtype: Literal["auto"] | NumberType = "auto"
    """Type of the base's weights and of matrix products; trained weights, or DeepSpeed's copy of them, stay float32.
    `auto` takes a type that the workers' devices multiply fast; it is decided on their nodes when a study starts, and
    kept from then on. float16 is trained with loss scaling, and on CPUs only on lanes."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, which takes less memory and about a third more time."""
    attn_implementation: Attention = "auto"
    """`eager` uses plain matrix products, `sdpa` lets PyTorch choose a kernel, `flash_attention_2` is for GPUs (on
    lanes PyTorch's own flash kernel, in isolated trials the package flash-attn). `auto` is `eager` for lanes on CPUs,
    where it is faster for short rows, else `sdpa`."""
    divergence_factor: StrictFloat = Field(2.0, gt=1.0)
    """A trial ends as `diverged` if a loss is NaN or infinite, or its validation loss (with `dpo` that of the chosen
    answers) is above this multiple of the base's."""

    @property
    def number_type(self) -> NumberType:
        """The `dtype`, after `auto` was decided."""
        if self.dtype == "auto":
            raise ValueError("train.dtype is still auto: it is decided where trials run")
        return self.dtype


class Ddp(Strict):
    """Data parallel: each worker holds a full copy, and gradients are averaged over the workers."""

    type: Literal["ddp"] = "ddp"


class DeepSpeed(Strict):
    """DeepSpeed's ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054); a lane implements stages 1 and 2 itself."""

    type: Literal["deepspeed"] = "deepspeed"
    zero_stage: Literal[1, 2, 3] = 2
    """1 shards the optimizer, 2 the gradients too, 3 the weights too."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in host memory."""

    @field_validator("zero_stage", mode="before")
    @classmethod
    def _a_number(cls, value: Any) -> Any:
        if isinstance(value, bool):  # True equals 1 and would pass
            raise ValueError(f"{str(value).lower()} is not a stage; use 1, 2 or 3")
        return value


Strategy = Annotated[Ddp | DeepSpeed, Field(discriminator="type")]


class Resources(Strict):
    """The cluster resources of one trial."""

    workers: StrictInt = Field(1, ge=1)
    """Ray Train workers of one trial."""
    cpus_per_worker: StrictFloat = Field(1, gt=0)
    """Logical CPUs that each worker reserves."""
    gpus_per_worker: StrictFloat = Field(0, ge=0)
    """GPUs that each worker reserves."""
    strategy: Strategy = Ddp()
    """How the workers share the work: `ddp` or `deepspeed`."""
    worker_start_timeout_s: StrictFloat = Field(180.0, gt=0)
    """Seconds within which a trial's workers must start, or the trial fails with that reason; a lane is retried."""
    max_failures: StrictInt = Field(2, ge=0)
    """Restarts of a trial's workers after a crash, each from the last complete checkpoint."""
    outage_timeout_s: StrictFloat = Field(3600.0, gt=0)
    """Seconds without any ready lane after which the sweep ends; `--resume` continues it."""


class Isolated(Strict):
    """One Ray Train run for each trial, which shares nothing and starts everything itself."""

    type: Literal["isolated"] = "isolated"


class LaneStep(Strict):
    """Optimisations of a lane's training step. Each is exact; docs/lanes.md shows the measured speedup of each."""

    loss_positions_only: bool = True
    """Compute logits and cross entropy only at positions with a loss."""
    padding_free: bool = True
    """Concatenate the rows of a batch; if off, each is padded to the longest of the batch."""
    fused: bool = True
    """Use hand-written backward passes for norms and gates, if the model's family allows it."""
    round_tokens: StrictInt = Field(32, ge=1)
    """Tokens of a step are rounded up to a multiple, so that kernels made for one step serve the next; 1 is off."""


class Lane(Strict):
    """A warm worker group that keeps the frozen base loaded and takes trial after trial."""

    type: Literal["lane"] = "lane"
    packed: Literal["auto"] | Annotated[StrictInt, Field(ge=1)] = "auto"
    """Trials that a lane trains in one pass; `auto` takes more as long as that is measured to be faster."""
    lanes: StrictInt | None = Field(None, ge=1)
    """Number of lanes; by default as many as fit into the cluster, at most `search.max_concurrent`."""
    share_base: bool = True
    """Map the base's weights from their files, so that the lanes of a node share one copy in memory."""
    step: LaneStep = LaneStep()
    """Optimisations of the training step."""


Runner = Annotated[Lane | Isolated, Field(discriminator="type")]
