"""Ray Tune's trainable where lanes train: it hands its trial to the dispatcher, and passes its reports on to Tune."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.result import DONE, RESULT_DUPLICATE

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import with_parameters
from raytune_ft.errors import InputError
from raytune_ft.execution.failures import failed
from raytune_ft.execution.lanes.entries import Message, TrialEnded, TrialGone, TrialReport
from raytune_ft.metrics.report import for_ray
from raytune_ft.paths import RunDirectory, TrialDirectory, checkpoint_name, read_json, write_json
from raytune_ft.training.lane.orders import Start
from raytune_ft.training.outcome import Outcome
from raytune_ft.training.spec import Copied, TrialSpec

POINTER = "pointer.json"
OVER = {RESULT_DUPLICATE: True, DONE: True}  # no report of its own: Tune keeps the last one as the trial's result
WAIT_S = 60.0
GONE_S = 0.2  # between two answers to Tune, until it has stopped the trial


@dataclass(frozen=True)
class Study:
    """What all trials of a search share.

    Attributes:
        experiment: The experiment, as plain values.
        run: The run directory.
        cwd: The working directory that relative paths in the experiment refer to.
        dispatcher: Handle of the lanes' dispatcher.
    """

    experiment: dict[str, Any]
    run: RunDirectory
    cwd: str
    dispatcher: Any


class LaneTrial(tune.Trainable):
    """A light proxy of a trial; Tune reuses its process for one trial after another.

    Its configuration is `{"trial": "0003", "parameters": {}}`, and after an exploit step of PBT or PB2 also
    `"copied": {"trial": "0001", "step": 10}`.
    """

    def setup(self, config: dict[str, Any], study: Study | None = None) -> None:
        assert study is not None
        os.chdir(study.cwd)
        self._experiment = Experiment.model_validate(study.experiment)
        self._run, self._dispatcher = study.run, study.dispatcher
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self._name, self._parameters = str(config["trial"]), config["parameters"]
        self._owner = uuid.uuid4().hex
        self._submitted = False
        self._reported: dict[str, Any] | None = None
        self._copied = Copied(**config["copied"]) if "copied" in config else None
        self._decided = 0

    def step(self) -> dict[str, Any]:
        """Waits for the trial's next report or its end, and returns it as Tune expects it."""
        if self._submitted:
            self._say("go_on", self._name)
        elif not self._submit():
            return dict(OVER)
        event: Message | None = None
        while event is None:
            event = self._say("next_event", self._name, WAIT_S)
        if isinstance(event, TrialReport):
            self._reported = event.metrics
            return for_ray(event.metrics)
        if isinstance(event, TrialGone):  # the search is over, not this trial: without a metric it stays open
            time.sleep(GONE_S)
            return {}
        directory = self._run.trial(self._name)
        if isinstance(event, TrialEnded) and Outcome.read(directory) is None:  # the scheduler ended it, not a lane
            event.outcome.write(directory)
        self._leave()
        return dict(OVER)

    def _submit(self) -> bool:
        """Submits the trial to the dispatcher; returns False if it has ended, or its configuration is wrong."""
        directory = self._run.trial(self._name)
        if Outcome.read(directory) is not None:  # it ended, and its driver was killed before it noticed
            return False
        try:
            resolved = with_parameters(self._experiment, self._parameters)
        except InputError as error:
            failed(str(error)).write(directory)
            return False
        spec = TrialSpec.of(self._name, self._parameters, resolved, self._run, self._copied)
        if not self._say("knows", self._name):  # if it knows the trial, an earlier proxy died
            if self._has_yet_to_copy(directory):  # its own checkpoints would take precedence over the copied one
                shutil.rmtree(directory.checkpoints, ignore_errors=True)
            directory.root.mkdir(parents=True, exist_ok=True)
            spec.write()
        self._say("submit", Start(spec, self._checkpoint_to_copy()), self._owner, self._decided)
        self._submitted = True
        return True

    def _has_yet_to_copy(self, directory: TrialDirectory) -> bool:
        """Returns whether the trial still has to copy, so that its own checkpoints are outdated."""
        if self._copied is None or not directory.config.exists():
            return self._copied is not None
        before = read_json(directory.config).get("copied")
        return bool(before != asdict(self._copied))

    def _checkpoint_to_copy(self) -> Path | None:
        if self._copied is None:
            return None
        return self._run.trial(self._copied.trial).checkpoints / checkpoint_name(self._copied.step)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves the step of the last report; the weights stay where they are."""
        write_json(Path(checkpoint_dir) / POINTER, {"trial": self._name, "step": (self._reported or {}).get("step", 0)})

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Restores the step to go on from: a paused trial's own one, or the one of the trial that it copies."""
        self._decided = read_json(Path(checkpoint) / POINTER)["step"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins another trial, or this one after a pause, in the same process."""
        self._leave()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Drops the trial, as Tune ends this process."""
        self._leave()

    def _leave(self) -> None:
        if self._submitted:
            self._say("drop", self._name, self._owner)
            self._submitted = False

    def _say(self, what: str, *args: Any) -> Any:
        """Calls the dispatcher, and waits for the answer: an async actor may start calls out of order."""
        return ray.get(getattr(self._dispatcher, what).remote(*args))
