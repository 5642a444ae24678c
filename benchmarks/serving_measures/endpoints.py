"""Who is asked: our endpoint, and vLLM's own server with the very settings that our endpoint gives its engine."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measures.inputs import BASE, PEERS, SENTENCES
from measures.processes import SideFailed, python, running_side
from measures.rounds import say

from raytune_ft.serving.settings import Limits, ServeArgs

NAME = BASE.name
MAX_MODEL_LEN = 256
_START_S = 400.0


def arguments(scratch: Path, registry: Path, **more: Any) -> ServeArgs:
    """What our endpoint is told; it keeps its access log, as `raytune-ft serve` does."""
    return ServeArgs(
        base_model=str(BASE),
        registry=str(registry),
        port=0,
        gpus=0,
        max_model_len=MAX_MODEL_LEN,
        log_dir=str(scratch / "serve_log"),
        limits=Limits(max_concurrent_per_key=256),
        **more,
    )


@contextmanager
def ours(args: ServeArgs) -> Iterator[str]:
    """Our endpoint; yields its URL, which ends in /v1."""
    from raytune_ft.serving.local.session import served

    with served(args, log=say, start_timeout_s=_START_S) as endpoint:
        yield endpoint.base_url


@contextmanager
def bare(scratch: Path, args: ServeArgs, adapters: Mapping[str, Path]) -> Iterator[str]:
    """`vllm serve` with our engine's settings; yields its URL.

    Args:
        scratch: For its log.
        args: What our endpoint is told.
        adapters: Model id -> directory, known to the server from its start.
    """
    from raytune_ft.serving.app import engine_settings
    from raytune_ft.serving.models.catalog import build_catalog

    settings = engine_settings(args, build_catalog(args), gpus=0)
    port = free_port()
    command = [
        *python(PEERS / "bare_vllm.py", "serve"),
        settings["model_loading_config"]["model_source"],
        *flags(settings["engine_kwargs"]),
        *("--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log"),
        *("--lora-modules", *(f"{name}={path}" for name, path in adapters.items())),
    ]
    variables = {**settings["runtime_env"]["env_vars"], "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_HOST_IP": "127.0.0.1"}
    say(f"starting vllm serve {' '.join(command[2:])}")
    with running_side(command, scratch / "bare", variables) as check:
        url = f"http://127.0.0.1:{port}/v1"
        wait_until_answering(url, check)
        yield url


def flags(engine: Mapping[str, Any]) -> list[str]:
    """vLLM's engine arguments, as its command line takes them."""
    words: list[str] = []
    for name, value in engine.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag] if value else []
        else:
            words += [flag, str(value)]
    return words


def wait_until_answering(url: str, check: Callable[[], None]) -> None:
    """Returns as soon as the server lists its models.

    Raises:
        SideFailed: It ended, or took too long.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        check()
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
    raise SideFailed(f"{url}: no answer after {_START_S:.0f} s")


def ray_settings() -> dict[str, str]:
    """What our endpoint's Ray is told that bears on speed; read while it runs."""
    return {name: value for name, value in os.environ.items() if name.startswith(("RAY_SERVE_", "RAY_worker_"))}


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prompts(number: int) -> list[str]:
    """Different prompts of the movie sentences, as many as wanted."""
    found = [json.loads(line)["prompt"] for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    return [found[each % len(found)] for each in range(number)]


def python_path() -> dict[str, str]:
    """The variable by which other processes find these modules."""
    here = str(Path(__file__).parents[1])
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{here}{os.pathsep}{before}" if before else here}
