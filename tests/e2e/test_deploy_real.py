"""`serve --deploy` with the real engine: the command puts base and adapters onto a head, and takes them away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.registry.store import Registry
from raytune_ft.serving.local.ask import ask, forms
from raytune_ft.serving.local.session import Endpoint

FILE = Path(__file__).parents[2] / "serve/cpu.yaml"
KEY = "canary-key-of-the-cluster"


@pytest.fixture(scope="module")
def head_environment() -> dict[str, str]:
    """The endpoint's key, and the usual home: the engine keeps there what it has compiled."""
    return {"RAYTUNE_FT_API_KEY": KEY, "VLLM_HOST_IP": "127.0.0.1", "HOME": os.environ["HOME"]}


def test_the_command_deploys_the_endpoint_and_takes_it_away(
    head: Any, base_model: Path, random_versions: Callable[[int], Registry]
) -> None:
    registry = random_versions(1)
    settings = ["--config", str(FILE), "--base-model", str(base_model), "--registry", str(registry.root)]
    settings += ["--port", str(head.port), "--max-model-len", "128", "--route-prefix", "/movies"]

    def serve(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "raytune_ft", "serve", "--address", head.address, "--name", "movies", *options]
        done = subprocess.run(command, env=head.environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        assert KEY not in done.stdout + done.stderr
        return done

    deployed = serve("--deploy", *settings)
    url = f"http://127.0.0.1:{head.port}/movies/v1"
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
