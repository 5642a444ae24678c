"""The experiment: one resolved, frozen configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictFloat, StrictInt, model_validator

from raytune_ft.config.data import DataConfig
from raytune_ft.config.files.overrides import METHOD
from raytune_ft.config.filled_in import filled_in
from raytune_ft.config.methods.choice import METHODS, Method
from raytune_ft.config.methods.lora import Lora
from raytune_ft.config.model import Strict
from raytune_ft.config.number_type import NumberType
from raytune_ft.config.objectives.choice import Objective
from raytune_ft.config.objectives.sft import Sft
from raytune_ft.config.promotion import PromotionConfig
from raytune_ft.config.search.goals import Metric
from raytune_ft.config.search.rungs import rungs
from raytune_ft.config.search.schedulers import NoScheduler, Population
from raytune_ft.config.search.search import Search
from raytune_ft.config.training import Resources, Runner, Train
from raytune_ft.metrics.named import OF_ROWS
from raytune_ft.names import check_name
from raytune_ft.paths import RunDirectory

Name = Annotated[str, AfterValidator(lambda value: check_name("name", value))]

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[tuple(OF_ROWS)]


class Evaluate(Strict):
    """The comparison of base and winner on the test split."""

    metrics: list[MetricName] = ["loss"]
    """`loss` for any data; `accuracy` and F1 need `labels`; `preference_accuracy` needs preference rows, and
    leads there by default."""
    labels: list[str] = []
    """The possible answers; the model's choice is the one whose tokens have the highest sum of log-probabilities."""
    batch_size: StrictInt = Field(16, ge=1)
    """Rows of one forward pass; halved, if need be repeatedly, when memory runs out."""
    confidence: StrictFloat = Field(0.95, gt=0.5, lt=1.0)
    """Level of the difference's confidence interval; each end errs in half of the rest, by default in 2.5 %."""

    @model_validator(mode="after")
    def _labels(self) -> Evaluate:
        wants = [metric for metric in self.metrics if OF_ROWS[metric].needs_labels]
        if wants and len(self.labels) < 2:
            raise ValueError(f"metrics {wants} need at least two labels; add labels, or use metrics: [loss]")
        if not all(label.strip() for label in self.labels):
            raise ValueError(f"labels {self.labels} have an empty one; each is an answer, with its leading space")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels {self.labels} repeat; each stands once")
        return self


class Wandb(Strict):
    """Weights & Biases; its key comes from WANDB_API_KEY, never from a file."""

    mode: Literal["online", "offline", "disabled"] = "offline"
    """`offline` keeps records locally for `wandb sync`."""
    project: str = "raytune-ft"
    """W&B project."""
    entity: str | None = None
    """W&B team or user."""


class Tracking(Strict):
    """The trackers that record each trial."""

    tensorboard: bool = True
    """Write TensorBoard event files beside Ray Tune's state."""
    wandb: Wandb | None = None
    """Weights & Biases; a separate process writes the records of all trials, so that no trial waits for it."""


class RegistryConfig(Strict):
    """The registry of adapter versions to which the winner is promoted."""

    path: str = "registry"
    """Directory of adapters, or s3://bucket/prefix."""
    adapter: Name | None = None
    """Name of the adapter; by default the experiment's name."""


class Experiment(Strict):
    """Everything that a run needs; the resolved file is written beside its results."""

    name: Name
    """Name of the run directory, the study and the tracker's group."""
    base_model: str
    """A model directory, or a Hugging Face hub id."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Off unless you read that code."""
    data: DataConfig
    """Training, validation and test rows."""
    objective: Objective = Sft()
    """The training objective, which defines the loss: `sft` (answers), `dpo` (preferences), or `custom`, your own."""
    method: Method = Lora()
    """Which weights are trained: `lora` (adapters), `qlora` (adapters on a base in 4 bits) or `full` (all)."""
    train: Train = Train()
    """The settings of optimisation."""
    resources: Resources = Resources()
    """The resources of one trial."""
    search: Search | None = None
    """The study; without it `raytune-ft train` still runs the one configuration."""
    runner: Runner | None = None
    """How a trial gets its workers: `lane` or `isolated`; by default `lane` if a lane can run the experiment."""
    evaluate: Evaluate = Evaluate()
    """The comparison of base and winner."""
    tracking: Tracking = Tracking()
    """TensorBoard and Weights & Biases."""
    registry: RegistryConfig = RegistryConfig()
    """The registry of adapter versions."""
    promotion: PromotionConfig = PromotionConfig()
    """The gates that a winner has to pass before it is registered."""
    output_dir: str = "runs"
    """Parent of the run directory."""
    seed: StrictInt = Field(0, ge=0)
    """Seed of splits, data order, adapters and dropout."""

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, values: Any) -> Any:
        return filled_in(values, Train().learning_rate)

    @model_validator(mode="after")
    def _rungs_fit(self) -> Experiment:
        scheduler, last = self.search.scheduler if self.search else NoScheduler(), self.train.max_steps
        if isinstance(scheduler, Population):
            if scheduler.perturbation_interval >= last:
                raise ValueError(
                    f"search.scheduler.perturbation_interval {scheduler.perturbation_interval} is not below "
                    f"train.max_steps {last}, so nothing is ever copied; lower one or raise the other"
                )
        elif not isinstance(scheduler, NoScheduler) and scheduler.grace_period > last:
            raise ValueError(
                f"search.scheduler.grace_period {scheduler.grace_period} is above train.max_steps "
                f"{last}; lower one or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _the_winner_can_be_served(self) -> Experiment:
        merged = [key for key in self.method.merged_with if getattr(self.method, key)]
        if merged and self.promotion.merge == "never":
            raise ValueError(
                f"method.{merged[0]} true makes an adapter that vLLM can't load; set promotion.merge: needed, which "
                "serves such a winner as a model of its own, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _labels_are_answers(self) -> Experiment:
        if self.evaluate.labels and not self.objective.marks_answers:
            decides = {key: value for key, value in self.objective.decides_tokens().items() if key != "objective"}
            shown = "".join(f" with {key} {value}" for key, value in decides.items())
            raise ValueError(
                f"evaluate.labels {self.evaluate.labels} are compared where the answer begins, which objective "
                f"{self.objective.type}{shown} does not mark; leave labels out, or change the objective"
            )
        return self

    @property
    def methods(self) -> list[str]:
        """The methods that its trials may have."""
        searched = self.search.space.parameters.get(METHOD) if self.search else None
        return searched.extremes() if searched else [self.method.type]

    @property
    def trains_on_rows(self) -> bool:
        """Whether it trains a language model on rows of data, and not whatever a custom trainer trains."""
        return self.objective.rows is not None

    @property
    def artefacts(self) -> set[str]:
        """What its trials may leave: `adapter`, `model`, or both where the method is searched."""
        return {METHODS[method].artefact for method in self.methods}

    @property
    def adapter_name(self) -> str:
        return self.registry.adapter or self.name

    @property
    def run_directory(self) -> RunDirectory:
        """The run directory, with an absolute path, because workers have other working directories."""
        return RunDirectory(Path(self.output_dir).resolve() / self.name)

    def computing_in(self, number_type: NumberType) -> Experiment:
        """Returns a copy with this `train.dtype`."""
        return self.model_copy(update={"train": self.train.model_copy(update={"dtype": number_type})})

    @property
    def longest(self) -> int:
        """Returns the steps of the longest trial in the study: `train.max_steps`, unless that is searched."""
        return self.search.longest(self.train.max_steps) if self.search else self.train.max_steps

    def study_rungs(self) -> tuple[int, ...]:
        """Returns the rungs of the study's longest trial, ascending; a shorter trial has those before its end."""
        return rungs(self.search.scheduler, self.longest, self.train.eval_steps) if self.search else ()

    def rungs(self) -> tuple[int, ...]:
        """Returns the rungs: the steps, ascending, at which the scheduler decides to stop, pause or copy a trial."""
        return rungs(self.search.scheduler, self.train.max_steps, self.train.eval_steps) if self.search else ()

    @property
    def goals(self) -> tuple[Metric, ...]:
        """What counts; the first leads: schedulers stop trials by it, and the leaderboard is ordered by it."""
        if self.search:
            return self.search.goals
        leading = self.objective.reports[0]
        return (Metric(name=leading.name, mode=leading.direction),)

    def report_steps(self) -> tuple[int, ...]:
        """Returns the steps at which a trial evaluates, saves and reports, ascending up to `train.max_steps`."""
        last = self.train.max_steps
        every = range(self.train.eval_steps, last, self.train.eval_steps) if self.train.eval_steps else ()
        return tuple(sorted({*every, *self.rungs(), last}))
