"""The Ray cluster a command runs on: the one it was submitted to, or a private one on this machine."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Resources
from raytune_ft.errors import InputError
from raytune_ft.execution.local_ray.forked.started import Forked, forked_workers
from raytune_ft.execution.local_ray.give_way import giving_way
from raytune_ft.execution.local_ray.leftovers import workers_end
from raytune_ft.execution.local_ray.loopback import environment, ray_on_loopback
from raytune_ft.execution.local_ray.minimal_ray import minimal_ray
from raytune_ft.execution.local_ray.token import read_token_anew
from raytune_ft.execution.local_ray.uninterrupted import uninterrupted
from raytune_ft.private_names import forked_start_wanted

STARTUP = {"RAY_worker_maximum_startup_concurrency": "8"}
"""Processes that a private Ray starts at once: by default one a CPU, and most of ours only wait."""
FORKED_STARTUP = {"RAY_prestart_worker_first_driver": "0"}
"""No worker starts ahead of need: it would be a new process, where a fork of the fork server may do."""


@contextmanager
def ray_cluster(*, state_api: bool = True, forked: tuple[str, str] | None = None) -> Iterator[bool]:
    """Connects to Ray for the length of the block.

    With RAY_ADDRESS set (Ray sets it in submitted jobs) that cluster is used and left running; otherwise a private one
    starts on loopback, with token authentication, and ends with the block.

    Args:
        state_api: Whether a private cluster gets Ray's dashboard, whose API Ray Train asks when an isolated trial is
            stopped. Its ten processes take a tenth of two cores.
        forked: Two modules that the workers of a private cluster share, as they are forked from a process that imported
            them: first one that does not import Ray, then one that does. With None, each worker is a new process.

    Yields:
        Whether the Ray is a private one, which ends with the block.
    """
    import logging

    if "ray" in sys.modules and _initialized():
        yield False
        return
    shown = logging.INFO if os.environ.get("RAYTUNE_FT_DEBUG") else logging.ERROR
    if address := os.environ.get("RAY_ADDRESS"):
        import ray

        read_token_anew()
        ray.init(logging_level=shown, runtime_env={"env_vars": {"RAY_ADDRESS": address}})
        try:
            yield False
        finally:
            ray.shutdown()
        return
    forked = forked if forked_start_wanted() else None
    port = _free_port()
    # Ray Train asks the state API when a trial is stopped; told the address, it does not look for other instances.
    started_with = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}"} | STARTUP | (FORKED_STARTUP if forked else {})
    few = nullcontext() if state_api else minimal_ray(logs=shown == logging.INFO)
    # The fork server starts first: its imports take as long as all the rest takes to start.
    with environment(started_with), giving_way(), _workers(forked) as copied, ray_on_loopback(), few:
        import ray

        ray.init(
            address="local",
            dashboard_host="127.0.0.1",
            dashboard_port=port,
            include_dashboard=state_api,
            log_to_driver=shown == logging.INFO,
            logging_level=shown,
        )
        token = Path.home() / ".ray" / "auth_token"  # Ray writes it with the umask's permissions
        if token.exists():
            token.chmod(0o600)
        if copied:
            copied.get_ready()
        try:
            yield True
        finally:
            # If Ctrl-C cut this short after the raylet is gone, Ray would end this process without a message.
            with uninterrupted(), workers_end(copied.process if copied else None):
                ray.shutdown()


def _initialized() -> bool:
    import ray

    return bool(ray.is_initialized())


def _workers(forked: tuple[str, str] | None) -> AbstractContextManager[Forked | None]:
    return forked_workers(forked) if forked else nullcontext()


def check_resources(experiment: Experiment, wait_s: float = 0.0, lanes: int | None = None) -> None:
    """Raises InputError when the cluster can't hold the experiment's concurrent trials, or that many lanes.

    Args:
        experiment: The experiment whose trials need room.
        wait_s: Seconds that nodes may take to join; an autoscaler is asked to start them meanwhile.
        lanes: Number of worker groups that trials share; None where each trial has its own.
    """
    import ray

    resources = experiment.resources
    groups = lanes or (experiment.search.max_concurrent if experiment.search else 1)
    per_worker = _per_worker(resources)
    asked = {kind: groups * resources.workers * each for kind, each in per_worker.items()}
    deadline = time.monotonic() + wait_s
    while missing := {kind: n for kind, n in asked.items() if n > ray.cluster_resources().get(kind, 0.0)}:
        if time.monotonic() >= deadline:
            kind, n = next(iter(missing.items()))
            what, setting = ("lane(s)", "runner.lanes") if lanes else ("trial(s) at once", "search.max_concurrent")
            wanted = f"{groups} {what} x {resources.workers} workers x {per_worker[kind]:g} {kind}"
            has = ray.cluster_resources().get(kind, 0.0)
            remedy = f"lower resources.workers or {setting}, or add nodes"
            raise InputError("resources", f"{wanted} = {n:g} {kind}, and the cluster has {has:g}", remedy)
        from ray.autoscaler.sdk import request_resources  # takes 0.25 s to import, so only where it waits anyway

        request_resources(bundles=[per_worker] * (groups * resources.workers))
        time.sleep(2.0)


def groups_that_fit(experiment: Experiment) -> int:
    """Returns how many worker groups the cluster's nodes hold at once."""
    import ray

    return groups_on([node["Resources"] for node in ray.nodes() if node["Alive"]], experiment.resources)


def groups_on(nodes: Iterable[Mapping[str, float]], resources: Resources) -> int:
    """Returns how many worker groups such nodes hold at once; a worker fits on one node, a group may span several.

    Args:
        nodes: The resources of each node, such as `{"CPU": 8.0, "GPU": 1.0}`.
        resources: The experiment's, which say what a worker takes.
    """
    per_worker = _per_worker(resources)
    workers = sum(min(int(node.get(kind, 0.0) / each + 1e-6) for kind, each in per_worker.items()) for node in nodes)
    return workers // resources.workers


def _per_worker(resources: Resources) -> dict[str, float]:
    per_worker = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    return {kind: each for kind, each in per_worker.items() if each}


def joining_s() -> float:
    """Returns how many seconds to wait for nodes: a cluster that is up may still grow, a private one will not."""
    return 300.0 if os.environ.get("RAY_ADDRESS") else 0.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
