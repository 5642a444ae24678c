"""A sweep as a job of a running Ray cluster, through Ray's job client (read against Ray 2.60)."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.cluster.connection import DEFAULT_ADDRESS, reach, request_errors
from raytune_ft.cluster.paths_on_cluster import NOT_UPLOADED, settings_for_cluster
from raytune_ft.config.load import load_experiment
from raytune_ft.errors import InputError, RaytuneError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

STATUS_POLL_S = 1.0
# Harmless switches that a job should share with who sends it. Anyone who sees the dashboard sees these: no secrets.
FORWARDED = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "RAY_USAGE_STATS_ENABLED", "WANDB_MODE", "WANDB_SILENT")


@dataclass(frozen=True)
class Job:
    """One submitted job."""

    submission_id: str
    address: str
    entrypoint: str
    shared_paths: tuple[str, ...]
    """Absolute paths that every node of the cluster must see."""

    @property
    def how_to_follow(self) -> str:
        return f"ray job logs {self.submission_id} --follow --address {self.address}"

    @property
    def how_to_stop(self) -> str:
        return f"ray job stop {self.submission_id} --address {self.address}"


def submit_sweep(
    experiment_file: Path,
    *,
    address: str = DEFAULT_ADDRESS,
    overrides: Sequence[str] = (),
    working_dir: Path = Path("."),
    python: str = "python",
) -> Job:
    """Checks the experiment, uploads the working directory and starts `raytune-ft sweep` on the cluster.

    Args:
        experiment_file: Inside `working_dir`; relative paths in it refer to `working_dir`.
        address: URL of the cluster's dashboard.
        overrides: `key.path=value` each.
        working_dir: What the job starts in; hidden files and what runs leave behind are not uploaded.
        python: The interpreter of the cluster's nodes.

    Raises:
        InputError: The experiment is wrong, or the cluster can't be reached or refuses the token.
    """
    root = working_dir.resolve()
    try:
        inside = experiment_file.resolve().relative_to(root)
    except ValueError:
        remedy = "give --working-dir a directory that holds it"
        raise InputError(str(experiment_file), f"lies outside the working directory {root}", remedy) from None
    with chdir(root):
        experiment = load_experiment(inside, overrides)
    settings, shared = settings_for_cluster(experiment, root)
    sets = [word for setting in (*overrides, *settings) for word in ("--set", setting)]
    entrypoint = shlex.join([python, "-m", "raytune_ft", "sweep", str(inside), *sets])
    client = connect(address)
    submission_id = f"{experiment.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    environment = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    with request_errors(address):
        client.submit_job(
            entrypoint=entrypoint,
            submission_id=submission_id,
            entrypoint_num_cpus=0,  # the driver only waits; every CPU is for trials
            runtime_env={"working_dir": str(root), "excludes": list(NOT_UPLOADED), "env_vars": environment},
            metadata={"experiment": experiment.name, "raytune_ft": version("raytune-ft")},
        )
    return Job(submission_id, address, entrypoint, tuple(shared))


def follow(job: Job, write: Callable[[str], Any]) -> None:
    """Hands the job's log to `write` until the job ends.

    Raises:
        RaytuneError: The job failed, or was stopped.
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
    """The job client of the cluster at `address`, or a one-line InputError that says what is missing."""
    reach(address)
    # Exactly NOT_UPLOADED decides what is uploaded; a data file that git ignores is still data.
    os.environ.setdefault("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    from ray.job_submission import JobSubmissionClient

    with request_errors(address):
        return JobSubmissionClient(address)
