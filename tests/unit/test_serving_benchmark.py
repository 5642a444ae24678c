"""The benchmark of the endpoint counts, pairs and judges rightly, whatever the endpoint answers."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def heard(model: str = "m", text: str = "t", *, asked: str = "m", prompt: str = "p", **more: Any) -> Any:
    from serving_measures.client import Asked, Heard

    facts = {"failure": "", "started": 0.0, "first_s": 0.1, "seconds": 1.0, "chunks": 0} | more
    return Heard(asked=Asked(asked, prompt, 4), model=model, text=text, **facts)


def test_a_percentile_lies_between_the_two_nearest_values() -> None:
    from serving_measures.summary import percentile

    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([1.0, 2.0, 3.0], 100) == 3.0
    assert percentile([5.0], 95) == 5.0
    assert percentile([0.0, 10.0], 95) == pytest.approx(9.5)


def test_a_ratio_is_that_of_rounds_so_that_a_slow_minute_does_not_count() -> None:
    from serving_measures.summary import paired_ratio

    assert paired_ratio([10.0, 1.0, 9.0], [10.0, 1.0, 10.0]) == {"median": 1.0, "least": 0.9, "greatest": 1.0}
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([1.0], [1.0, 2.0])


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


def test_clients_take_the_next_request_as_soon_as_they_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving_measures import client

    under_way = most = 0

    async def ask(session: Any, url: str, asked: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return heard(prompt=asked.prompt)

    monkeypatch.setattr(client, "ask", ask)
    asked = [client.Asked("m", str(number), 1) for number in range(9)]
    answers, seconds = asyncio.run(client.ask_all("http://nobody", asked, 4))
    assert sorted(each.asked.prompt for each in answers) == [str(number) for number in range(9)]
    assert most == 4 and seconds > 0.0
    assert list(client.until(lambda: True, asked)) == []


def test_both_sides_are_asked_the_same_and_neither_is_always_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving_measures import sides

    order: list[tuple[str, Any]] = []

    async def ask_all(url: str, requests: Any, at_once: int) -> Any:
        order.append((url, list(requests)))
        return [heard()], 1.0

    monkeypatch.setattr(sides, "ask_all", ask_all)
    turns = sides.Turns({"ours": "o", "bare": "b"}, rest_s=0.0)
    found = turns.cell("cell", [[0], [1]], 1)  # type: ignore[list-item]
    assert order == [("o", [0]), ("b", [0]), ("b", [1]), ("o", [1])]
    assert [len(found["ours"]), len(found["bare"]), len(turns.heard)] == [2, 2, 4]


def one_round(seconds: float, *texts: str, failure: str = "", first_s: float = 0.1) -> Any:
    from serving_measures.sides import Round

    answers = [
        heard(text=text, prompt=str(number), failure=failure, first_s=first_s) for number, text in enumerate(texts)
    ]
    return Round(answers, seconds)


def test_throughput_counts_answered_requests_and_missed_goals() -> None:
    from serving_measures.throughput import MAX_TOKENS, compare, rows

    found = {
        "ours": [one_round(1.0, "a", "b"), one_round(2.0, "a", "b")],
        "bare": [one_round(1.0, "a", "x"), one_round(1.0, "a", "b")],
    }
    cell = compare(found)
    assert cell["ours_to_bare"] == {"median": 0.75, "least": 0.5, "greatest": 1.0}
    assert cell["ours"]["requests_per_s"] == 1.5 and cell["ours"]["tokens_per_s"] == 1.5 * MAX_TOKENS
    (row,) = rows({"cells": {"base, 1 concurrent": cell}, "failures": {}})
    assert row.reached is False and "0.75 (0.50 to 1.00)" in row.measured
    cell["ours_to_bare"]["median"] = 0.96
    for failures, reached in (({}, True), ({"503: busy": 1}, False)):
        assert rows({"cells": {"c": cell}, "failures": failures})[0].reached is reached
    assert compare({side: [one_round(1.0, "a", failure="no")] for side in ("bare", "ours")} | found)["ours"]
    assert cell["same_answers"] == "2 of 2"  # of a prompt that was asked twice, the last answer


def test_first_tokens_are_compared_pair_by_pair() -> None:
    from serving_measures.first_token import compare, reaches, rows
    from serving_measures.sides import Round

    def rounds(*times: float) -> list[Any]:
        return [Round([heard(first_s=first_s) for first_s in times[:2]], 1.0), Round([heard(first_s=times[2])], 1.0)]

    found = {"ours": rounds(0.205, 1.020, 0.207), "bare": rounds(0.200, 1.000, 0.200)}
    compared = compare(found)
    assert (compared["added_ms"], compared["added_part"]) == (7.0, 0.035)
    assert rows({"models": {"base": compared}, "failures": {}})[0].reached is True
    assert reaches({"added_ms": 12.0, "added_part": 0.04}) and not reaches({"added_ms": 12.0, "added_part": 0.06})


def test_gateways_that_do_not_answer_the_same_are_not_compared() -> None:
    from dataclasses import replace

    from measures.processes import SideFailed
    from serving_measures.gateway import compare
    from serving_measures.sides import Round
    from serving_measures.stub_engine import CHUNKS

    def streams(chunks: int) -> Any:
        one = heard(chunks=chunks)
        return Round([replace(one, asked=replace(one.asked, stream=True))] * 4, 2.0)

    compared = compare({"ours": [streams(CHUNKS)], "ray": [streams(CHUNKS)]})
    assert compared["ours"]["requests_per_s"] == 2.0 and compared["ours_to_ray"]["median"] == 1.0
    assert "ours_to_ray" not in compare({"ours": [streams(CHUNKS)]})
    with pytest.raises(SideFailed, match="4 streams"):
        compare({"ours": [streams(CHUNKS)], "ray": [streams(3)]})


ONE, TWO, NAMED = "smollm2-135m-instruct:movies@1", "smollm2-135m-instruct:movies@2", "smollm2-135m-instruct:movies"


def test_prompts_that_a_version_is_not_sure_of_prove_nothing() -> None:
    from serving_measures.promotion import clear_answers

    answers = [
        heard(asked=model, prompt=prompt, text=text, lead=lead)
        for prompt, (one, two), (lead_of_one, lead_of_two) in (
            ("clear", "ab", (0.9, 0.8)),
            ("tied", "ab", (0.0, 3.0)),
            ("same", "aa", (3.0, 3.0)),
            ("clearer", "cd", (2.0, 1.0)),
        )
        for model, text, lead in ((ONE, one, lead_of_one), (TWO, two, lead_of_two))
    ]
    known, lead = clear_answers(answers, [ONE, TWO], wanted=2)
    assert known == {(ONE, "clear"): "a", (TWO, "clear"): "b", (ONE, "clearer"): "c", (TWO, "clearer"): "d"}
    assert lead == 0.8 and clear_answers([], [ONE, TWO]) == ({}, 0.0)


def test_a_lead_is_the_least_of_the_answers_tokens() -> None:
    from serving_measures.client import Asked, least_lead

    tops = [{" a": -0.1, " b": -2.6}, {" c": -1.5, " d": -1.0, " e": -4.0}]
    assert least_lead(json.dumps({"choices": [{"logprobs": {"top_logprobs": tops}}]}).encode()) == 0.5
    assert Asked("m", "p", 1, next_best=True).body()["logprobs"] == 2 and "logprobs" not in Asked("m", "p", 1).body()


def test_every_wrong_answer_under_promotion_is_counted_as_what_it_is() -> None:
    from serving_measures.promotion import Moved, judge, rows

    known = {(ONE, "p"): "a", (TWO, "p"): "b"}
    moves = [Moved(2, began=1.0, ended=1.1), Moved(1, began=5.0, ended=5.1)]

    def answer(model: str, text: str, started: float = 1.05, **more: Any) -> Any:
        return heard(model, text, asked=NAMED, started=started, **more)

    right = [answer(ONE, "a", 0.0), answer(TWO, "b", 2.0), answer(ONE, "a", 6.0), answer(ONE, "a", 1.05)]
    crossing = [answer(ONE, "a", 4.5), answer(TWO, "b", 4.5)]  # on the way while the champion moved
    facts = {"clients": 8}
    fine = facts | judge([*right, *crossing], moves, known)
    assert all(row.reached for row in rows(fine)) and fine["of_each_version"] == {ONE: 4, TWO: 2}
    wrong = [
        answer("", "", failure="503: busy"),
        answer("smollm2-135m-instruct", "a"),
        answer(ONE, "b"),
        answer(ONE, "z"),
        answer(ONE, "a", 2.0),
        answer(TWO, "b", 6.0),
    ]
    judged = facts | judge([*right, *wrong], moves, known)
    assert judged["requests"] == 10 and judged["failures"] == {"503: busy": 1}
    assert judged["named_neither_version"] == 1
    assert judged["said_what_the_other_version_says"] == judged["said_what_neither_version_says"] == 1
    assert judged["answered_by_the_version_before"] == 2
    assert [row.reached for row in rows(judged)] == [False] * 3
    assert [row.measured for row in rows(judged)] == ["1 of 10", "3 of 10", "2 of 10"]


def test_traffic_to_many_adapters_is_skewed_and_the_same_each_time() -> None:
    from collections import Counter

    from serving_measures import many_adapters

    names = [f"adapter-{number}" for number in range(100)]
    traffic = zipf(many_adapters, names, 500)
    asked = Counter(each.model for each in traffic)
    assert traffic == zipf(many_adapters, names, 500)
    most = asked.most_common(1)[0][1]
    assert 60 < most < 140 and len(asked) > 50 and {each.max_tokens for each in traffic} == {1, 2, 3, 4}


def zipf(module: Any, names: list[str], number: int) -> Any:
    before = module.prompts
    module.prompts = lambda wanted: [str(each) for each in range(wanted)]
    try:
        return module.zipf_traffic(names, number)
    finally:
        module.prompts = before


def test_a_request_needs_a_swap_where_its_adapter_is_not_among_the_last_ones_used() -> None:
    from serving_measures.many_adapters import rows, swaps

    order = [("a", 0.1), ("b", 0.1), ("a", 0.1), ("c", 0.5), ("b", 0.7), ("b", 0.3)]
    counted = swaps([heard(asked=name, seconds=seconds) for name, seconds in order], ["b", "a"], loaded=2)
    assert (counted["loaded_requests"], counted["swapped_requests"]) == (4, 2)
    assert counted["swap_ms"] == 500.0
    broken = swaps([heard(asked="a", failure="500"), heard(asked="a", seconds=0.2)], [], loaded=2)
    assert (broken["loaded_requests"], broken["swapped_requests"]) == (1, 0) and "swap_ms" not in broken
    facts = {"adapters": 100, "loaded_at_once": 8, "requests": 500, "answered_by_another": 0, "answers_changed": 1}
    shown = rows({**facts, "failures": {"500": 2}, **counted})
    assert [row.measured for row in shown] == ["3", "500 ms (a request to a loaded one 100 ms)"]
    assert shown[0].reached is False


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
    import subprocess
    import sys

    import psutil

    from raytune_ft.execution.alive import alive

    def serves(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SERVES, code, str(directory)]
        return subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, timeout=60)

    well = serves(STARTS_ANOTHER, tmp_path / "well")
    assert well.returncode == 0, well.stderr
    with suppress(psutil.NoSuchProcess):
        assert not alive(psutil.Process(int(well.stdout)))
    broken = serves("raise SystemExit('no such model')", tmp_path / "broken")
    assert broken.returncode == 1 and "no such model" in broken.stderr and "exit code 1" in broken.stderr
