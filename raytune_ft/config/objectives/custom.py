"""`objective: {type: custom}`: a user's own training function, and its facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from raytune_ft.config.data import RowKind
from raytune_ft.config.model import Strict
from raytune_ft.config.objectives.facts import Product
from raytune_ft.metrics.named import OF_ROWS, OF_TRIALS, Direction, MetricFacts

_TRAINER = re.compile(r"(?P<file>[^:]+\.py):(?P<function>[A-Za-z_]\w*)")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = (
    "step", "samples", "tokens", "seconds", "eval_seconds", "checkpoint", "time", "train_loss", "metrics", "memory_mib",
    "copied_from", "parameters",  # of a report
    "done", "config", "trial_id", "training_iteration", "iterations_since_restore", "date", "timestamp", "pid",
    "hostname", "node_ip", "experiment_tag", "checkpoint_dir_name", "checkpoint_path", "time_this_iter_s",
    "time_total_s",  # Ray's
)  # fmt: skip
RESERVED = ("seed", "max_steps", "report_steps")
"""Settings that the search itself tells a trainer."""


class Custom(Strict):
    """A training function of your own, searched like any other: whatever reports a number. docs/custom.md.

    It runs isolated, with the study's budget, scheduler, resume and leaderboard. There is no base model and no data
    section, and nothing is promoted: what it makes is its own.
    """

    rows: ClassVar[RowKind | None] = None
    row_metrics: ClassVar[tuple[str, ...]] = ()
    evaluated_by: ClassVar[tuple[str, ...]] = ()
    makes: ClassVar[Product] = "anything"
    diverges_by: ClassVar[str | None] = None
    searched: ClassVar[tuple[str, ...]] = ("settings",)
    scales: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    rate: ClassVar[float] = 1.0
    sequences: ClassVar[int] = 1
    reference_passes: ClassVar[int] = 0
    not_on_lanes: ClassVar[str | None] = "a trainer of your own loads what it trains itself"

    type: Literal["custom"] = "custom"
    trainer: str
    """The function, as `my_file.py:train`, called as `train(settings, data, report, checkpoint)`."""
    metrics: dict[str, Direction] = Field(min_length=1)
    """The metrics that it reports -> `min` or `max`; the first leads a search that names none."""
    settings: dict[str, Any] = {}
    """Its settings, by names of its own; a space searches them as `objective.settings.NAME`."""

    @field_validator("trainer")
    @classmethod
    def _a_function(cls, value: str) -> str:
        if _TRAINER.fullmatch(value) is None:
            raise ValueError(f"{value!r} is no function of a file; write it as my_file.py:train")
        return value

    @field_validator("settings")
    @classmethod
    def _own_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in RESERVED or not name.isidentifier():
                told = "is what the search tells the trainer" if name in RESERVED else "is no name"
                raise ValueError(f"{name!r} {told}; name it otherwise, or use train.max_steps and seed")
        return value

    @field_validator("metrics")
    @classmethod
    def _names(cls, value: dict[str, Direction]) -> dict[str, Direction]:
        for name in value:
            if _NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r} is no name of a metric; use small letters, digits and _")
            if name in _TAKEN or name in OF_TRIALS or name in OF_ROWS:
                raise ValueError(f"{name!r} means something else already; name it otherwise")
        return value

    @property
    def file(self) -> str:
        """The path of the trainer's file."""
        return self.trainer.rpartition(":")[0]

    @property
    def function(self) -> str:
        """The name of the trainer's function."""
        return self.trainer.rpartition(":")[2]

    @property
    def reports(self) -> tuple[MetricFacts, ...]:
        """The metrics of a trial's reports, any of which may lead."""
        return tuple(MetricFacts(name, direction, leads=True) for name, direction in self.metrics.items())

    @property
    def marks_answers(self) -> bool:
        """Whether the prepared rows show where an answer begins; there are none."""
        return False

    def decides_tokens(self) -> dict[str, str]:
        """Returns what decides the prepared rows; there are none."""
        return {"objective": self.type}
