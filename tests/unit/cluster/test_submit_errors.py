"""What `submit` refuses before anything is sent."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from raytune_ft.cluster.submit import Job, connect, plan_job
from raytune_ft.errors import InputError

EXPERIMENT = "name: x\nbase_model: org/model\ndata: {train: train.jsonl}\n"


@pytest.fixture(autouse=True)
def ray_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token of this machine is read, and what `connect` sets is undone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_an_unreachable_cluster_is_one_line() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # bound, not listening
        with pytest.raises(InputError, match=f"127.0.0.1:{port}: no Ray dashboard answers; start a cluster"):
            connect(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://head:10001", "http://", "auto"])
def test_an_address_that_is_no_dashboard_url_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="is not the URL of a dashboard; write it as http://"):
        connect(address)


def test_a_server_that_is_no_dashboard_is_refused() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(InputError) as caught:
            connect(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert "\n" not in str(caught.value)


def test_an_experiment_outside_the_working_directory_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "x.yaml").write_text(EXPERIMENT)
    with pytest.raises(InputError, match="lies outside the working directory"):
        plan_job(tmp_path / "x.yaml", working_dir=inside)


def test_a_wrong_experiment_is_refused_before_the_cluster_is_asked(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(EXPERIMENT + "train: {learing_rate: 1.0}\n")
    with pytest.raises(InputError, match="did you mean learning_rate"):
        plan_job(tmp_path / "x.yaml", working_dir=tmp_path)


def test_a_job_says_how_to_follow_and_to_stop_it() -> None:
    job = Job("x-1", "http://head:8265")
    assert job.how_to_follow == "ray job logs x-1 --follow --address http://head:8265"
    assert job.how_to_stop == "ray job stop x-1 --address http://head:8265"
