"""The benchmark of the endpoint counts, pairs and judges rightly, whatever the endpoint answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("benchmarks_are_importable")


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
