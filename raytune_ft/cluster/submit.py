"""Submits a sweep as a job to a running Ray cluster through Ray's job client (read against Ray 2.60)."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from raytune_ft.cluster.connection import DEFAULT_ADDRESS, reach, request_errors
from raytune_ft.cluster.paths_on_cluster import paths_on_cluster
from raytune_ft.cluster.secret_files import secret_in_text
from raytune_ft.cluster.upload import Upload, choose
from raytune_ft.config.files.overrides import parse_assignments, with_settings
from raytune_ft.config.files.resolve import redact
from raytune_ft.config.files.yaml import read_yaml
from raytune_ft.config.load import load_experiment
from raytune_ft.errors import InputError, RaytuneError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

STATUS_POLL_S = 1.0
# Switches of the submitting shell that the job gets too. The dashboard shows them, so that none may be a secret.
FORWARDED = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "RAY_USAGE_STATS_ENABLED", "WANDB_MODE", "WANDB_SILENT")


@dataclass(frozen=True)
class JobPlan:
    """A job that was checked but not sent yet."""

    experiment: str
    """Name of the experiment."""
    entrypoint: str
    upload: Upload
    """The files to send."""
    shared_paths: tuple[str, ...]
    """Absolute paths that every node of the cluster must see."""

    def lines(self) -> list[str]:
        """Returns lines for the user that describe what will be sent."""
        shared = ", ".join(self.shared_paths)
        return self.upload.lines() + ([f"every node must see {shared}"] if shared else [])


@dataclass(frozen=True)
class Job:
    """A submitted job."""

    submission_id: str
    address: str

    @property
    def how_to_follow(self) -> str:
        return f"ray job logs {self.submission_id} --follow --address {self.address}"

    @property
    def how_to_stop(self) -> str:
        return f"ray job stop {self.submission_id} --address {self.address}"


def plan_job(
    experiment_file: Path,
    *,
    overrides: Sequence[str] = (),
    working_dir: Path = Path("."),
    also: Sequence[Path] = (),
    python: str = "python",
) -> JobPlan:
    """Checks the experiment and decides which files a job that runs `raytune-ft sweep` needs; sends nothing.

    Args:
        experiment_file: The experiment's file inside `working_dir`, to which its relative paths refer.
        overrides: Overrides of the form `key.path=value`.
        working_dir: Directory whose files the job gets, under the same relative paths, if the experiment names them.
        also: Further files and directories in `working_dir` to send.
        python: The Python interpreter on the cluster's nodes.

    Raises:
        InputError: The experiment is wrong, or something that would be sent looks like a secret or is too large.
    """
    root = working_dir.resolve()
    try:
        inside = experiment_file.resolve().relative_to(root)
    except ValueError:
        remedy = "give --working-dir a directory that holds it"
        raise InputError(str(experiment_file), f"lies outside the working directory {root}", remedy) from None
    with chdir(root):
        experiment = load_experiment(inside, overrides)
        values = with_settings(read_yaml(inside).value, parse_assignments(overrides))
    _refuse_secret_settings(str(inside), values, overrides)
    paths = paths_on_cluster(experiment, values, root)
    sets = [word for setting in (*overrides, *paths.settings) for word in ("--set", setting)]
    entrypoint = shlex.join([python, "-m", "raytune_ft", "sweep", str(inside), *sets])
    return JobPlan(experiment.name, entrypoint, choose(root, inside, paths.sent, also), paths.shared)


def start_job(plan: JobPlan, *, address: str = DEFAULT_ADDRESS, log: Callable[[str], Any] = lambda line: None) -> Job:
    """Sends the job's files and starts it.

    Args:
        plan: The job.
        address: URL of the cluster's dashboard.
        log: Receives lines on what is sent, after the cluster has answered and before the files are sent.

    Raises:
        InputError: The cluster can't be reached, or refuses the token.
    """
    client = connect(address)
    for line in plan.lines():
        log(line)
    submission_id = f"{plan.experiment}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    environment = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    with TemporaryDirectory(prefix="raytune-ft-") as staged, request_errors(address):
        plan.upload.copy_to(Path(staged))
        client.submit_job(
            entrypoint=plan.entrypoint,
            submission_id=submission_id,
            entrypoint_num_cpus=0,  # the driver only waits, so that every CPU is left to the trials
            runtime_env={"working_dir": staged, "env_vars": environment},
            metadata={"experiment": plan.experiment, "raytune_ft": version("raytune-ft")},
        )
    return Job(submission_id, address)


def _refuse_secret_settings(file: str, values: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuses settings that hold a secret, because everyone who sees the dashboard sees a job's command and files.

    Raises:
        InputError: A setting in `values` or `overrides` looks like a secret.
    """
    for place, each in (*(("--set", parse_assignments([one])) for one in overrides), (file, values)):
        if key := _secret_setting(each):
            what = f"{key} holds a key or a password, which whoever sees the dashboard would see"
            remedy = "leave it out; it belongs into the nodes' environment (PostgreSQL's into PGPASSWORD)"
            raise InputError(place, what, remedy)


def _secret_setting(value: Any, key: str = "") -> str | None:
    """Returns the dotted key of the first setting in nested values that looks like a secret, or None."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            path = f"{key}.{name}" if key else str(name)
            scalar = not isinstance(item, Mapping | list)
            found = path if scalar and redact({str(name): item}) != {str(name): item} else _secret_setting(item, path)
            if found:
                return found
    elif isinstance(value, list):
        return next((found for item in value if (found := _secret_setting(item, key))), None)
    elif isinstance(value, str) and (redact(value) != value or secret_in_text(value)):
        return key
    return None


def follow(job: Job, write: Callable[[str], Any]) -> None:
    """Passes the job's log to `write` until the job ends.

    Raises:
        RaytuneError: The job failed or was stopped.
    """
    try:
        client = connect(job.address)
        with request_errors(job.address):
            _tail(client, job.submission_id, write)
            while not client.get_job_status(job.submission_id).is_terminal():
                time.sleep(STATUS_POLL_S)
            info = client.get_job_info(job.submission_id)
    except InputError as error:  # the job was started, so this is a failure, not a wrong input
        raise RaytuneError(f"lost job {job.submission_id} ({error}); follow it: {job.how_to_follow}") from error
    if str(info.status) != "SUCCEEDED":
        reason = " ".join((info.message or "no reason given").split(", last available logs")[0].split())[:300]
        raise RaytuneError(f"job {job.submission_id} ended as {info.status}: {reason}")


def _tail(client: JobSubmissionClient, submission_id: str, write: Callable[[str], Any]) -> None:
    async def tail() -> None:
        async for piece in client.tail_job_logs(submission_id):
            write(piece)

    try:
        asyncio.run(tail())
    except (RuntimeError, OSError) as error:
        write(f"the log's stream broke ({' '.join(str(error).split())}); waiting for the job to end\n")


def connect(address: str) -> JobSubmissionClient:
    """Returns the job client of the cluster at `address`; raises InputError if it can't be reached."""
    reach(address)
    # The files were chosen one by one, so that a .gitignore among them must not leave any out.
    os.environ.setdefault("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    from ray.job_submission import JobSubmissionClient

    with request_errors(address):
        return JobSubmissionClient(address)
