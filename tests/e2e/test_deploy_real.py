"""`serve --deploy` with the real engine: the command puts base and adapters onto a head, and takes them away."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from raytune_ft.registry.store import Registry
from raytune_ft.serving.ask import ask, forms
from raytune_ft.serving.session import Endpoint

BIN = Path(sys.executable).parent
FILE = Path(__file__).parents[2] / "serve/cpu.yaml"
KEY = "canary-key-of-the-cluster"


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def head(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray head's dashboard, on loopback, and the environment with its token and the endpoint's key."""
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = {
        **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAYTUNE_FT_API_KEY": KEY,
        "PATH": f"{BIN}:{os.environ['PATH']}", "VLLM_HOST_IP": "127.0.0.1",
    }  # fmt: skip
    gcs, dashboard, agent = _free_ports(3)
    command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    command += [f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={agent}", "--object-store-memory=200000000"]
    with (tmp_path / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None and not _listens(dashboard):
            time.sleep(0.3)
        yield f"http://127.0.0.1:{dashboard}", environment
    finally:
        ray = psutil.Process(process.pid)
        processes = [ray, *ray.children(recursive=True)]
        for each in reversed(processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.terminate()
        for each in psutil.wait_procs(processes, timeout=10)[1]:
            each.kill()


def test_the_command_deploys_the_endpoint_and_takes_it_away(
    head: tuple[str, dict[str, str]], base_model: Path, random_versions: Callable[[int], Registry]
) -> None:
    address, environment = head
    registry, (port,) = random_versions(1), _free_ports(1)
    settings = ["--config", str(FILE), "--base-model", str(base_model), "--registry", str(registry.root)]
    settings += ["--port", str(port), "--max-model-len", "128", "--route-prefix", "/movies"]

    def serve(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "raytune_ft", "serve", "--address", address, "--name", "movies", *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        assert KEY not in done.stdout + done.stderr
        return done

    deployed = serve("--deploy", *settings)
    url = f"http://127.0.0.1:{port}/movies/v1"
    assert deployed.stdout == f"movies answers at {url}\n"
    assert "movies is DEPLOYING" in deployed.stderr and "movies is RUNNING" in deployed.stderr
    endpoint = Endpoint(url, [], KEY)
    base = base_model.name
    assert {base, f"{base}:movies", f"{base}:movies@1"} <= forms(endpoint).keys()
    answers = [
        ask(endpoint, model, "Review: a joyless, endless film.\nSentiment:", "prompt_completion", max_tokens=4)
        for model in (base, f"{base}:movies")
    ]
    assert [each.model for each in answers] == [base, f"{base}:movies@1"] and answers[0].text != answers[1].text
    assert serve("--remove").stdout == "movies is gone\n"
