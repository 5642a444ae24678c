"""The Ray cluster a command runs on: the one it was submitted to, or a private one on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.errors import InputError


@contextmanager
def ray_cluster() -> Iterator[None]:
    """Connects to Ray for the length of the block.

    With RAY_ADDRESS set (Ray sets it in submitted jobs) that cluster is used and left running; otherwise a private one
    starts on loopback, with token authentication, and ends with the block.
    """
    import logging

    import ray

    if ray.is_initialized():
        yield
        return
    shown = logging.INFO if os.environ.get("RAYTUNE_FT_DEBUG") else logging.ERROR
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=shown, runtime_env={"env_vars": {"RAY_ADDRESS": address}})
    else:
        port = _free_port()
        # Ray Train asks the state API when a trial is stopped; told the address, it does not look for other instances.
        os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
        ray.init(
            address="local",
            _node_ip_address="127.0.0.1",
            dashboard_host="127.0.0.1",
            dashboard_port=port,
            include_dashboard=True,
            log_to_driver=shown == logging.INFO,
            logging_level=shown,
        )
        token = Path.home() / ".ray" / "auth_token"  # Ray writes it with the umask's permissions
        if token.exists():
            token.chmod(0o600)
    try:
        yield
    finally:
        ray.shutdown()
        os.environ.pop("RAY_API_SERVER_ADDRESS", None)


def check_resources(experiment: Experiment) -> None:
    """Raises InputError when the cluster can't hold the experiment's concurrent trials."""
    import ray

    resources = experiment.resources
    available = ray.cluster_resources()
    trials = experiment.search.max_concurrent if experiment.search else 1
    for kind, per_worker in (("CPU", resources.cpus_per_worker), ("GPU", resources.gpus_per_worker)):
        asked, has = trials * resources.workers * per_worker, available.get(kind, 0.0)
        if asked > has:
            raise InputError(
                "resources",
                f"{trials} trial(s) at once x {resources.workers} workers x {per_worker:g} {kind} = {asked:g} {kind}, "
                f"and the cluster has {has:g}",
                "lower resources.workers or search.max_concurrent, or add nodes",
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
