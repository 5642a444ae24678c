"""`serve --deploy` on a real head that asks for a token: our application beside others; and the files in serve/."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from raytune_ft.cluster.deploy import deploy, remove
from raytune_ft.cluster.serve_file import ServeFile, read_serve_file
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.serving.app import engine_settings
from raytune_ft.serving.models.catalog import build_catalog
from raytune_ft.serving.settings import ServeArgs, parse_serve_args

SERVE_FILES = sorted((Path(__file__).parents[2] / "serve").glob("*.yaml"))
# What runs on the cluster: applications without an engine.
APPS = """
import os
from ray import serve
from raytune_ft.serving.settings import parse_serve_args

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Says:
    def __init__(self, word):
        self.word = word
    def __call__(self, request):
        return {"word": self.word, "pid": os.getpid(), "secret": os.environ.get("OTHERS_SECRET")}

def endpoint(args):
    args = parse_serve_args(args)
    if args.base_model == "broken":
        raise ValueError("the base is broken")
    return Says.bind(f"{args.base_model} {args.max_model_len}")

def other(args):
    return Says.bind("other")
"""
# One whose replicas load adapters and are routed to; apart, because the router imports vLLM.
ROUTED = """
import os
from ray import serve

class Body:
    def __init__(self, prompt, seconds):
        self.prompt, self.seconds = prompt, seconds

@serve.deployment(
    ray_actor_options={"num_cpus": 0}, num_replicas=2, max_ongoing_requests=100,
    request_router_config={
        "request_router_class": "raytune_ft.serving.engine.prefix_router.AdapterPrefixRouter",
        "request_router_kwargs": {"imbalanced_threshold": 3, "do_eviction": True},
    },
)
class Engine:
    @serve.multiplexed(max_num_models_per_replica=4)
    async def load(self, model):
        return model
    async def __call__(self, body):
        import asyncio
        if model := serve.get_multiplexed_model_id():
            await self.load(model)
        await asyncio.sleep(body.seconds)
        return os.getpid()

@serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=100)
class Ingress:
    def __init__(self, engine):
        self.engine = engine
    async def __call__(self, request):
        import asyncio
        asked = await request.json()
        async def ask(each):
            handle = self.engine.options(multiplexed_model_id=each["model"])
            return await handle.remote(Body(each["prompt"], asked.get("seconds", 0)))
        if asked.get("at_once"):
            return await asyncio.gather(*(ask(each) for each in asked["requests"]))
        return [await ask(each) for each in asked["requests"]]

def routed(args):
    return Ingress.bind(Engine.bind())
"""


@pytest.fixture(scope="module")
def head_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    modules = tmp_path_factory.mktemp("modules")
    (modules / "apps_of_test_deploy.py").write_text(APPS)
    (modules / "routed_of_test_deploy.py").write_text(ROUTED)
    return {"PYTHONPATH": str(modules)}


@pytest.fixture(scope="module")
def head(head: Any) -> Iterator[Any]:
    """Its token is this process's too, which asks it often."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
            patch.setenv(name, head.environment[name])
        patch.setattr("raytune_ft.cluster.deploy.POLL_S", 0.1)
        yield head


def _file(name: str, app: str, **application: Any) -> ServeFile:
    fields = {"import_path": f"apps_of_test_deploy:{app}", **application}
    return ServeFile({}, name=name, route_prefix=f"/{name}", application=fields)


def _args(head: Any, **changes: Any) -> ServeArgs:
    return ServeArgs.model_validate({"base_model": "org/base", "registry": None, "port": head.port, **changes})


def _ask(head: Any, name: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{head.port}/{name}", data=None if body is None else json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.load(response)


def test_ours_comes_and_goes_beside_others_that_notice_nothing(head: Any) -> None:
    told: list[str] = []
    secret = {"env_vars": {"OTHERS_SECRET": "kept", "PYTHONPATH": head.environment["PYTHONPATH"]}}
    deploy(_args(head), _file("other", "other", runtime_env=secret), address=head.address)
    program = (
        "import ray, apps_of_test_deploy as apps\nfrom ray import serve\n"
        f"ray.init('{head.gcs}', namespace='serve', log_to_driver=False)\n"
        "serve.run(apps.Says.bind('program'), name='program', route_prefix='/program')\n"
    )
    subprocess.run([sys.executable, "-c", program], env=head.environment, check=True, timeout=600, capture_output=True)
    before = [_ask(head, name) for name in ("other", "program")]
    assert [each["word"] for each in before] == ["other", "program"] and before[0]["secret"] == "kept"

    done = deploy(_args(head), _file("movies", "endpoint"), address=head.address, log=told.append)
    assert (done.base_url, done.others) == (f"http://127.0.0.1:{head.port}/movies/v1", ("other", "program"))
    assert told[-1].startswith("movies is RUNNING: Says 1/1 replicas")
    assert _ask(head, "movies")["word"] == "org/base 512"

    deploy(_args(head, max_model_len=1024), _file("movies", "endpoint"), address=head.address)
    assert _ask(head, "movies")["word"] == "org/base 1024", "an update of the same name"

    with pytest.raises(RaytuneError, match=r"broken is DEPLOY_FAILED: .*ValueError: the base is broken"):
        deploy(_args(head, base_model="broken"), _file("broken", "endpoint"), address=head.address)
    with pytest.raises(InputError, match="'other' answers at /other already"):
        deploy(_args(head), ServeFile({}, name="x", route_prefix="/other"), address=head.address)
    with pytest.raises(InputError, match=r"was started by a program, with serve\.run"):
        remove("program", address=head.address)
    remove("broken", address=head.address)
    remove("movies", address=head.address)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        _ask(head, "movies")
    assert [_ask(head, name) for name in ("other", "program")] == before, "the same processes answer as before"


def test_the_command_is_refused_in_one_line(head: Any) -> None:
    command = [sys.executable, "-m", "raytune_ft", "serve", "--base-model", "org/base", "--address", head.address]
    wrong = {**head.environment, "RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": "0" * 64}
    open_to_all = [*command, "--deploy", "--host", "0.0.0.0"]
    for line, environment, says in (
        ([*command, "--deploy"], wrong, "the cluster refuses this token (403)"),
        ([*command, "--remove", "--name", "none"], head.environment, "runs no application 'none'"),
        (open_to_all, {**head.environment, "RAYTUNE_FT_API_KEY": ""}, "is reachable by others and no API key is set"),
    ):
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 2, done.stderr
        assert says in done.stderr and len(done.stderr.splitlines()) == 1


def test_an_adapters_requests_meet_the_replica_that_has_it_until_that_is_too_busy(head: Any) -> None:
    deploy(_args(head), _file("routed", "", import_path="routed_of_test_deploy:routed"), address=head.address)
    try:
        prompt = "one and the same beginning, and then "

        def pids(model: str, count: int, **options: Any) -> list[int]:
            requests = [{"model": model, "prompt": f"{prompt}{index}"} for index in range(count)]
            answered: list[int] = _ask(head, "routed", {"requests": requests, **options})
            return answered

        assert len(set(pids("", 24, at_once=True, seconds=0.5))) == 2, "the base is everywhere"
        first = pids("base:movies@1", 1)
        time.sleep(2.0)  # a replica tells the routers what it has loaded, a moment later
        second = pids("base:movies@2", 1)
        time.sleep(2.0)
        assert first != second, "a new version goes to the replica with the fewest"
        assert pids("base:movies@1", 12) == first * 12
        assert pids("base:movies@2", 12) == second * 12, "though the prompts were first seen by the other replica"
        flood = pids("base:movies@1", 24, at_once=True, seconds=0.5)
        assert set(flood) == {*first, *second} and flood.count(first[0]) > 8
        tokens = [{"model": "base:movies@1", "prompt": [1, 2, 3]}, {"model": "", "prompt": ""}]
        assert len(_ask(head, "routed", {"requests": tokens})) == 2
    finally:
        remove("routed", address=head.address)


@pytest.mark.parametrize("path", SERVE_FILES, ids=lambda path: path.stem)
def test_a_serve_file_becomes_the_engine_that_it_describes(path: Path, tiny_llama: Path) -> None:
    from ray.serve.config import RequestRouterConfig
    from ray.serve.llm import LLMConfig
    from ray.serve.schema import ServeDeploySchema

    ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    file = read_serve_file(path)
    args = parse_serve_args({**file.http, **file.args, "base_model": str(tiny_llama), "registry": None})
    gpus = args.gpus or 0
    config = LLMConfig(**engine_settings(args, build_catalog(args), gpus))
    assert config.placement_group_config is not None
    assert config.placement_group_config["bundles"] == ([{"GPU": 1}] * gpus or [{"CPU": 1}])
    assert config.engine_kwargs.get("tensor_parallel_size", 1) == max(gpus, 1)
    assert config.engine_kwargs.get("max_num_seqs") == args.max_num_seqs
    options = config.deployment_config
    assert ("num_replicas" in options) is (args.autoscaling is None)
    if args.router == "prefix":
        router = RequestRouterConfig.model_validate(options["request_router_config"])
        assert router.get_request_router_class().__name__ == "AdapterPrefixRouter"
