"""Copies of the fork server against new processes: the same start, and Ray's own script where they would differ."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest

from raytune_ft.execution.local_ray.alive import wait_for_end
from raytune_ft.execution.local_ray.forked import server, setup_worker, started
from raytune_ft.execution.local_ray.forked.setup_worker import worker_of

WORKER = """
import json, os, random, resource, sys, numpy
found = {
    "parent": os.getppid(), "arguments": sys.argv[1:], "path": sys.path[0], "directory": os.getcwd(),
    "given": os.environ.get("RAY_GIVEN"), "nice": os.getpriority(os.PRIO_PROCESS, 0), "main": __name__,
    "chance": [random.random(), numpy.random.random()], "imported": "wave" in sys.modules,
    "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
}
found |= {name: os.environ.get(name) for name in ("LD_PRELOAD", "MALLOC_CONF", "PYTORCH_NVML_BASED_CUDA_CHECK")}
print(json.dumps(found), flush=True)
"""
MEANT_FOR_SERVER = ("LD_PRELOAD", "MALLOC_CONF", "PYTORCH_NVML_BASED_CUDA_CHECK")
RAYS = "import json; print(json.dumps({'parent': None}))"
THIS_RAY = {"RAY_JOB_ID": "01000000", "RAY_RAYLET_PID": "7"}


def context(**values: Any) -> str:
    return "--serialized-runtime-env-context=" + json.dumps({"py_executable": sys.executable, **values})


@contextmanager
def unnamed() -> Iterator[None]:
    """Without the variable that pytest changes from test to test."""
    with mock.patch.dict(os.environ):
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        yield


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A worker that tells about itself, and beside it what stands for Ray's own script."""
    directory = tmp_path_factory.mktemp("workers")
    (directory / "default_worker.py").write_text(WORKER)
    (directory / "setup_worker.py").write_text(RAYS)
    return directory


@pytest.fixture(scope="module")
def forked() -> Iterator[started.Forked]:
    with unnamed(), started.forked_workers(("numpy", "wave")) as forked:
        assert forked is not None
        yield forked


def start(
    scripts: Path, address: str, *arguments: str, nicer: int = 0, files: int | None = None, **environment: str
) -> dict[str, Any]:
    """What the worker says that Ray would start so."""
    command = [
        *(("prlimit", f"--nofile={files}") if files else ()),
        "nice",
        "-n",
        str(nicer),
        sys.executable,
        setup_worker.__file__,
        str(scripts / "default_worker.py"),
        "--node=1",
        *arguments,
    ]
    environment = {**THIS_RAY, setup_worker.SERVER: address, **environment}
    with unnamed():
        environment = {**os.environ, **environment}
    done = subprocess.run(command, env=environment, cwd=scripts, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_copy_is_what_a_new_process_would_be(forked: started.Forked, scripts: Path) -> None:
    found = start(scripts, forked.address, context(env_vars={"RAY_GIVEN": "yes"}))
    assert found["parent"] == forked.process.pid and found["imported"]
    assert found["arguments"] == ["--node=1"] and found["main"] == "__main__"
    assert (found["path"], found["directory"]) == (str(scripts), str(scripts))
    assert found["given"] == "yes" and found["nice"] == os.getpriority(os.PRIO_PROCESS, 0)
    for variable in MEANT_FOR_SERVER:
        assert found[variable] == os.environ.get(variable)
    left = set(forked.process.children(recursive=True))  # it may be on its way out
    assert not wait_for_end(left, 60.0) and not forked.process.children(), "its end is seen to"


def test_copies_draw_their_own_numbers(forked: started.Forked, scripts: Path) -> None:
    one, other = (start(scripts, forked.address)["chance"] for _ in range(2))
    assert one[0] != other[0] and one[1] != other[1]


def test_a_worker_starts_as_nice_as_its_raylet_makes_it(forked: started.Forked, scripts: Path) -> None:
    found = start(scripts, forked.address, nicer=5)
    assert found["parent"] == forked.process.pid and found["nice"] == os.getpriority(os.PRIO_PROCESS, 0) + 5


def test_it_may_open_as_many_files_as_its_raylet_lets_it(forked: started.Forked, scripts: Path) -> None:
    found = start(scripts, forked.address, files=777)
    assert found["parent"] == forked.process.pid and found["open_files"] == 777


def test_who_waited_too_long_and_became_the_worker_itself_gets_no_copy_besides(
    forked: started.Forked, scripts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = worker_of([str(scripts / "default_worker.py"), "--node=tired"])
    assert plain is not None
    with unnamed():
        plain["environment"] = {**os.environ, **THIS_RAY}
    forked.process.suspend()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as waiting:
            waiting.connect(forked.address)
            setup_worker.send(waiting, plain)
    finally:
        forked.process.resume()
    assert start(scripts, forked.address)["parent"] == forked.process.pid  # it has read what came before
    assert "tired" not in capfd.readouterr().out


def test_a_module_of_the_working_directory_stands_in_for_none(
    scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wave.py").write_text("raise SystemExit('not the one that is meant')")
    monkeypatch.chdir(tmp_path)
    with unnamed(), started.forked_workers(("numpy", "wave")) as forked:
        assert forked is not None
        found = start(scripts, forked.address)
        assert found["parent"] == forked.process.pid and found["imported"]


@pytest.mark.parametrize(
    "change",
    [{"HF_HOME": "/elsewhere"}, {"PYTHONPATH": "/elsewhere"}, {"RAY_RAYLET_PID": "8"}, {"RAY_JOB_ID": "02000000"}],
)
def test_what_was_read_on_import_makes_it_a_new_process(
    forked: started.Forked, scripts: Path, change: dict[str, str]
) -> None:
    assert start(scripts, forked.address)["parent"] == forked.process.pid
    assert start(scripts, forked.address, **change)["parent"] is None


def test_without_a_server_ray_starts_it(scripts: Path, tmp_path: Path) -> None:
    assert start(scripts, str(tmp_path / "nobody"))["parent"] is None
    with started.forked_workers(("json", "wave")) as forked:
        assert forked is not None
        forked.process.send_signal(signal.SIGKILL)
        forked.process.wait(10)
        assert start(scripts, forked.address)["parent"] is None


def test_where_a_socket_would_have_too_long_a_path_nothing_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(started.tempfile, "gettempdir", lambda: "/" + 80 * "d")
    with started.forked_workers(("json", "wave")) as forked:
        assert forked is None


def test_only_plain_python_workers_are_copies() -> None:
    plain = ["/ray/default_worker.py", "--node=1", "--language=PYTHON", context(env_vars={"A": 1})]
    request = worker_of(plain)
    assert request is not None
    assert request["command"] == plain[:2] and request["environment"]["A"] == "1"
    assert worker_of(["/ray/default_worker.py", "--language=JAVA"]) is None
    assert worker_of(["-s", "/ray/default_worker.py"]) is None
    for other in (
        {"py_executable": "/other/python"}, {"command_prefix": ["conda", "run"]}, {"java_jars": ["a.jar"]},
        {"override_worker_entrypoint": "/mine.py"}, {"env_vars": {"A": "${HOME}/a"}}, {"new_in_ray": 1},
    ):  # fmt: skip
        assert worker_of([*plain[:2], context(**other)]) is None, other


def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Also where that one is killed, and its copies go on: Ray ends those."""
    starter = (
        "import time\nfrom raytune_ft.execution.local_ray.forked.started import forked_workers\n"
        "with forked_workers(('json', 'wave')) as forked:\n"
        "    print(forked.process.pid, forked.address, flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    number, address = process.stdout.readline().split()
    forked = psutil.Process(int(number))
    process.kill()
    process.wait(10)
    assert not wait_for_end({forked}, 10.0)
    assert not Path(address).parent.exists()


def _sound(setting: str) -> str:
    """What the server finds of its copies when it has imported Ray Train so."""
    code = (
        "import contextlib, sys\nfrom unittest import mock\nfrom raytune_ft.execution.local_ray.forked import server\n"
        f"with {setting}:\n    server.import_all('ray.train', 'torch')\n    print(server.copies_are_sound())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_copies_that_would_draw_the_same_ids_or_could_use_no_gpu_are_noticed() -> None:
    """Ray Train declares actors when it is imported, and each draws an id."""
    assert _sound("server.drawing_no_id()") == "True"
    assert _sound("contextlib.nullcontext()") == "False"
    spoiled = "mock.patch('torch.cuda._is_in_bad_fork', lambda: True), server.drawing_no_id()"
    assert _sound(spoiled) == "False"


def test_environments_may_differ_in_what_is_read_later() -> None:
    own = {"HOME": "/root", "RAY_JOB_ID": "01000000"}
    assert server.as_imported({**own, "RAY_X": "1", "CUDA_VISIBLE_DEVICES": "0"}, own, {})
    assert not server.as_imported({**own, "HF_HUB_OFFLINE": "1"}, own, {})
    assert not server.as_imported({"RAY_JOB_ID": "01000000"}, own, {})
    imports_set = {"TORCHINDUCTOR_CACHE_DIR": "/tmp/here"}
    assert server.as_imported({**own, **imports_set}, own, imports_set)
    assert not server.as_imported({**own, "TORCHINDUCTOR_CACHE_DIR": "/elsewhere"}, own, imports_set)


def test_an_allocator_that_the_user_chose_stays() -> None:
    assert started.allocator({"LD_PRELOAD": "libtcmalloc.so"}) == {} == started.allocator({"MALLOC_CONF": "narenas:1"})
    given = started.allocator({})
    assert not given or Path(given["LD_PRELOAD"]).is_file()


def test_ray_is_given_our_script_in_the_block_and_its_own_after_it() -> None:
    from ray._private.parameter import RayParams

    before = RayParams.update_if_absent
    with started._in_place_of_rays():
        parameters = RayParams()
        parameters.update_if_absent(setup_worker_path="theirs", worker_path="worker")
        assert (parameters.setup_worker_path, parameters.worker_path) == (setup_worker.__file__, "worker")
    assert RayParams.update_if_absent is before
