"""Chooses the runner of an experiment, and says why."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import METHOD
from raytune_ft.config.number_type import NOT_IN_FLOAT16
from raytune_ft.config.possible import possible
from raytune_ft.config.search.schedulers import PAUSING
from raytune_ft.config.target_modules import names
from raytune_ft.config.training import DeepSpeed, Isolated, Lane
from raytune_ft.data.base_model import model_config
from raytune_ft.errors import InputError
from raytune_ft.training.lane.model.adapter import ALIGN
from raytune_ft.training.lane.model.families import refusal

_OF_A_LANE = (
    "resources",
    "train.dtype",
    "train.attn_implementation",
    "train.gradient_checkpointing",
    METHOD,
)
"""Settings that a lane's workers take on when they start, so that its trials can't differ in them."""
_OUTSIDE_LAYERS = ("lm_head", "model.embed_tokens")
"""Modules that a lane runs without adapters."""


@dataclass(frozen=True)
class Choice:
    """A runner, and why it was chosen.

    Attributes:
        runner: The runner, with its settings.
        reason: Why, as one clause for a person.
    """

    runner: Lane | Isolated
    reason: str


def choose_runner(experiment: Experiment) -> Choice:
    """Returns the runner that the experiment asks for; without `runner`, a lane wherever one can serve.

    Raises:
        InputError: It asks for a lane, and none can serve; its scheduler needs one; or the base's config.json can't
            be read.
    """
    asked = experiment.runner
    if experiment.train.dtype == "float16":
        kind = model_config(experiment.base_model).get("model_type")
        if kind in NOT_IN_FLOAT16:
            what = f"float16 does not hold the activations of {kind}"
            raise InputError("train.dtype", what, "use bfloat16, float32 or auto")
    if isinstance(asked, Isolated):
        _check_no_pauses(experiment, "the experiment asks for isolated")
        _check_type(experiment, "the experiment asks for isolated")
        _check_attention(experiment, "the experiment asks for isolated")
        return Choice(asked, "the experiment asks for it")
    obstacle = _obstacle(experiment)
    if obstacle is None:
        _check_attention(experiment)
        return Choice(asked or Lane(), "the base is shared and each trial starts at once")
    if asked is not None:
        remedy = "use runner: {type: isolated}, or leave runner out"
        raise InputError("runner", f"type lane can't serve: {obstacle}", remedy)
    _check_no_pauses(experiment, f"no lane can serve: {obstacle}")
    _check_type(experiment, f"no lane can serve: {obstacle}")
    _check_attention(experiment, f"no lane can serve: {obstacle}")
    return Choice(Isolated(), obstacle)


def _check_no_pauses(experiment: Experiment, why: str) -> None:
    """Raises InputError where the scheduler pauses trials, which isolated ones can't go on from."""
    kind = experiment.search.scheduler.type if experiment.search else "none"
    if kind in PAUSING:
        what = f"{kind} pauses trials, which only lanes can, and {why}"
        raise InputError("search.scheduler", what, "use asha, median or none")


def _check_type(experiment: Experiment, why: str) -> None:
    """Raises InputError for float16 in isolated trials on a CPU: accelerate supports it on GPUs alone."""
    searched = experiment.search.space.parameters.get("train.dtype") if experiment.search else None
    types = searched.extremes() if searched else [experiment.train.dtype]
    if "float16" not in types:
        return
    if not experiment.resources.gpus_per_worker:
        what = f"float16 trains on CPUs on lanes alone, and {why}"
        raise InputError("train.dtype", what, "use float32, bfloat16 or auto")


def _check_attention(experiment: Experiment, isolated: str | None = None) -> None:
    """Raises InputError for flash_attention_2 where it can't run.

    Args:
        experiment: The experiment to check.
        isolated: Why its trials are isolated; None where they train on lanes.
    """
    where, name = "train.attn_implementation", "flash_attention_2"
    if name not in possible(experiment, where):
        return
    if not experiment.resources.gpus_per_worker:
        raise InputError(where, f"{name} runs on GPUs alone, and trials take none", "use auto, eager or sdpa")
    if "float32" in possible(experiment, "train.dtype"):
        raise InputError(where, f"{name} does not compute in float32, which train.dtype is", "use auto or sdpa")
    if isolated and importlib.util.find_spec("flash_attn") is None:
        what = f"in isolated trials {name} is the package flash-attn, which is not installed, and {isolated}"
        raise InputError(where, what, "use sdpa, which has PyTorch's own flash kernel, or install flash-attn")


def _obstacle(experiment: Experiment) -> str | None:
    """Returns why no lane can serve the experiment, or None where one can; cheap checks come first."""
    strategy = experiment.resources.strategy
    if isinstance(strategy, DeepSpeed):
        if strategy.zero_stage == 3:
            return "strategy deepspeed with zero_stage 3 shards the base, which a lane keeps whole"
        if strategy.offload_optimizer:
            return "offload_optimizer moves optimizer state to the host, which a lane does not"
        if ALIGN % experiment.resources.workers:
            workers = experiment.resources.workers
            return f"a lane shards adapters evenly, over a number of workers that divides {ALIGN}, not {workers}"
    space = experiment.search.space.parameters if experiment.search else {}
    for key in space:
        if any(f"{key}.".startswith(f"{fixed}.") or fixed.startswith(f"{key}.") for fixed in _OF_A_LANE):
            return f"the space searches {key}, which is the same for all trials of a lane"
    if (why := experiment.objective.not_on_lanes) is not None:
        return why
    if (why := experiment.method.not_on_lanes) is not None:
        return why
    for setting, why in experiment.method.lanes_refuse.items():
        if any(possible(experiment, f"method.{setting}")):
            return f"method.{setting} {why}"
    for each in possible(experiment, "method.target_modules"):
        for module in _OUTSIDE_LAYERS:
            if names(each, module):
                return f"method.target_modules takes {module}, where lanes have no adapters"
    if experiment.trust_remote_code:
        return "trust_remote_code brings a model whose code lanes do not know"
    return refusal(model_config(experiment.base_model), experiment.data.max_length)
