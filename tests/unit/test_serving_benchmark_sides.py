"""What the sides of the endpoint's benchmark are made of: answers read, a stub, flags, adapters, processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from raytune_ft.execution.local_ray.alive import alive

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.usefixtures("benchmarks_are_importable")


def event(**value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("status", "content", "stream", "read"),
    [
        (200, b'{"model": "m", "choices": [{"text": " a"}]}', False, ("", "m", " a", 0)),
        (503, b"busy", False, ("503: busy", "", "", 0)),
        (503, b"busy", True, ("503: busy", "", "", 0)),
        (200, b"", True, ("the stream broke off", "", "", 0)),
        (200, event(model="m", choices=[{"text": " a"}]), True, ("the stream broke off", "", "", 1)),
        (200, event(error="x") + b"data: [DONE]\n\n", True, ("error in the stream: x", "", "", 1)),
        (
            200,
            event(model="m", choices=[{"text": " a"}]) * 2 + event(model="m", choices=[]) + b"data: [DONE]\n\n",
            True,
            ("", "m", " a a", 2),
        ),
    ],
)  # fmt: skip
def test_an_answer_is_read_and_one_that_is_cut_is_a_failure(
    status: int, content: bytes, stream: bool, read: tuple[str, str, str, int]
) -> None:
    from serving_measures.client import read_answer

    assert read_answer(status, content, stream) == read


def test_the_stub_streams_what_a_client_reads_as_100_chunks_and_a_usage_where_asked() -> None:
    from serving_measures.client import read_answer
    from serving_measures.stub_engine import CHUNKS, WORD, StubEngine

    async def streamed(include_usage: bool) -> list[str]:
        options = SimpleNamespace(include_usage=True) if include_usage else None
        request = SimpleNamespace(model="m", stream=True, stream_options=options)
        return [chunk async for chunk in StubEngine(None).completions(request)]

    for include_usage in (False, True):
        chunks = asyncio.run(streamed(include_usage))
        assert read_answer(200, "".join(chunks).encode(), True) == ("", "m", WORD * CHUNKS, CHUNKS)
        assert any('"usage":{' in chunk for chunk in chunks) is include_usage


def test_bare_vllm_gets_our_engines_settings_as_flags() -> None:
    from serving_measures.endpoints import flags

    engine = {"dtype": "bfloat16", "enforce_eager": True, "trust_remote_code": False, "max_lora_rank": 8}
    assert flags(engine) == ["--dtype", "bfloat16", "--enforce-eager", "--max-lora-rank", "8"]


def test_a_random_adapter_is_the_same_for_its_seed_and_fits_the_base(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from serving_measures import adapters

    from raytune_ft.data.safetensors_header import read_header

    shape = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 12, "head_dim": 4}
    (tmp_path / "config.json").write_text(json.dumps({**shape, "num_attention_heads": 2, "num_key_value_heads": 1}))
    monkeypatch.setattr(adapters, "BASE", tmp_path)
    first = adapters.write_adapter(tmp_path / "a", 1, modules=adapters.ALL_LINEAR) / "adapter_model.safetensors"
    again = adapters.write_adapter(tmp_path / "b", 1, modules=adapters.ALL_LINEAR) / "adapter_model.safetensors"
    other = adapters.write_adapter(tmp_path / "c", 2, modules=adapters.ALL_LINEAR) / "adapter_model.safetensors"
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    shapes = {name: list(info.shape) for name, info in read_header(first).items()}
    prefix = "base_model.model.model.layers.1"
    assert len(shapes) == 2 * 7 * 2
    assert shapes[f"{prefix}.self_attn.k_proj.lora_B.weight"] == [4, 4]
    assert shapes[f"{prefix}.mlp.down_proj.lora_A.weight"] == [4, 12]


SERVES = """
import sys, time
from pathlib import Path
from measures.processes import SideFailed, running_side
try:
    with running_side([sys.executable, "-c", sys.argv[1]], Path(sys.argv[2])) as check:
        pid = Path(sys.argv[2]) / "pid"
        while not pid.exists() or not pid.read_text():
            check()
            time.sleep(0.02)
except SideFailed as error:
    sys.exit(str(error))
print(pid.read_text())
"""
STARTS_ANOTHER = """
import subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("pid", "w").write(str(other.pid))
time.sleep(60)
"""


def test_a_peer_that_serves_is_ended_with_all_that_it_started_and_one_that_ends_says_why(tmp_path: Path) -> None:
    def serves(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SERVES, code, str(directory)]
        return subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, timeout=300)

    well = serves(STARTS_ANOTHER, tmp_path / "well")
    assert well.returncode == 0, well.stderr
    with suppress(psutil.NoSuchProcess):
        assert not alive(psutil.Process(int(well.stdout)))
    broken = serves("raise SystemExit('no such model')", tmp_path / "broken")
    assert broken.returncode == 1 and "no such model" in broken.stderr and "exit code 1" in broken.stderr
