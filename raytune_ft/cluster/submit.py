"""A sweep as a job of a running Ray cluster, through Ray's job client (read against Ray 2.60)."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from raytune_ft.cluster.paths_on_cluster import NOT_UPLOADED, settings_for_cluster
from raytune_ft.config.load import load_experiment
from raytune_ft.errors import InputError, RaytuneError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
CONNECT_TIMEOUT_S = 5.0
STATUS_POLL_S = 1.0
# Harmless switches that a job should share with who sends it. Anyone who sees the dashboard sees these: no secrets.
FORWARDED = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "RAY_USAGE_STATS_ENABLED", "WANDB_MODE", "WANDB_SILENT")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
    with _request_errors(address):
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
        with _request_errors(job.address):
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
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("--address", f"{address!r} is not the URL of a dashboard", f"write it as {DEFAULT_ADDRESS}")
    port = parts.port or (443 if parts.scheme == "https" else 8265)
    unreachable = InputError(
        address,
        "no Ray dashboard answers",
        "start a cluster, or forward its port: kubectl port-forward service/HEAD 8265, ssh -L 8265:127.0.0.1:8265 HEAD",
    )
    try:  # the job client itself waits for minutes
        socket.create_connection((parts.hostname, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        raise unreachable from None
    _use_token(parts.hostname)
    # Exactly NOT_UPLOADED decides what is uploaded; a data file that git ignores is still data.
    os.environ.setdefault("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    from ray.job_submission import JobSubmissionClient

    with _request_errors(address):
        return JobSubmissionClient(address)


def _use_token(host: str) -> None:
    """Switches Ray's token authentication on where a token was given, or where this machine's own Ray made one."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    own = host in LOOPBACK and (Path.home() / ".ray" / "auth_token").is_file()
    if given or own:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextmanager
def _request_errors(address: str) -> Iterator[None]:
    """Turns what the job client raises into one line with a remedy."""
    import requests
    from ray.exceptions import AuthenticationError

    remedy = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"
    try:
        yield
    except AuthenticationError as error:
        required = "required" in str(error)
        what = "the cluster asks for a token (401)" if required else "the cluster refuses this token (403)"
        raise InputError(address, what, remedy) from error
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise InputError(address, f"the request failed ({error})", "check that it is a Ray dashboard") from error
    except (RuntimeError, ValueError) as error:
        if isinstance(error, RaytuneError):
            raise
        raise InputError(address, f"Ray refused the request ({error})", "") from error
