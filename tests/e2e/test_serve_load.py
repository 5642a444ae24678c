"""The real engine under load: promotions, a hundred adapters, a canary and its shadow, and a replica that is killed."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from raytune_ft.execution.local_ray.alive import alive
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, set_traffic
from raytune_ft.serving.local.ask import client
from raytune_ft.serving.local.session import Endpoint, served
from raytune_ft.serving.records.metrics import ENGINE_METRICS, METRICS
from raytune_ft.serving.records.records import read_records
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs

pytestmark = pytest.mark.system

BASE = "smollm2-135m-instruct"
MOVIES = f"{BASE}:movies"
PROMPTS = (
    "Review: a joyless, endless film.\nSentiment:", "The capital of France is", "One, two, three,", "2 + 2 =",
    "Monday, Tuesday, Wednesday,", "To be, or not to", "Once upon a", "A, B, C, D, E,", "The opposite of hot is",
    "The sun rises in the", "Dear Sir or", "import numpy as",
)  # fmt: skip
ADAPTERS, LOADED = 100, 8
CLIENTS = 16


@pytest.fixture(scope="module")
def registry(random_versions: Callable[[int], Registry]) -> Registry:
    registry = random_versions(3)
    crowd(registry)
    return registry


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def load(base_model: Path, registry: Registry, log: Path) -> Iterator[Load]:
    """One endpoint for all tests of this file; the last one kills its engine."""
    args = ServeArgs(
        base_model=str(base_model),
        registry=str(registry.root),
        port=0,
        max_model_len=128,
        max_adapters=2,  # both slots are in use, and the base is asked besides: it must get neither
        max_loaded_adapters=LOADED,
        log_dir=str(log),
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv(API_KEY_VARIABLE, raising=False)
        with served(args, log=print) as endpoint:
            load = Load(endpoint)
            load.learn(BASE, f"{MOVIES}@1", f"{MOVIES}@2")
            yield load


def crowd(registry: Registry) -> None:
    """A hundred adapters more, copies of one under their own names."""
    source = registry.path("movies", 1)
    manifest = json.loads((source / "manifest.json").read_text())
    for number in range(ADAPTERS):
        name = f"crowd{number:03d}"
        shutil.copytree(source, registry.root / name / "1")
        (registry.root / name / "1" / "manifest.json").write_text(json.dumps({**manifest, "adapter": name}))
        (registry.root / name / "aliases.json").write_text('{"champion": 1}')


@dataclass
class Load:
    """Asks, and compares each answer with what the version that is named says alone."""

    endpoint: Endpoint
    prompt: str = ""
    said: dict[str, str] = field(default_factory=dict)

    def learn(self, *models: str) -> None:
        """Chooses the prompt after which each says something else and none hesitates: sums differ with the batch."""
        margins = {}
        for prompt in PROMPTS:
            said = {model: self._says(model, prompt) for model in models}
            if len({text for text, _ in said.values()}) == len(models):
                margins[prompt] = min(margin for _, margin in said.values())
        print("margins in nats where all differ:", margins)
        self.prompt = max(margins, key=lambda prompt: margins[prompt])
        self.said = {model: self._says(model, self.prompt)[0] for model in models}

    def _says(self, model: str, prompt: str) -> tuple[str, float]:
        """Its next word, and how much likelier that is than the second."""
        options: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": 1, "logprobs": 2, "temperature": 0.0}
        choice: Any = client(self.endpoint).completions.create(**options).choices[0]
        first, second = sorted(choice.logprobs.top_logprobs[0].values(), reverse=True)[:2]
        return choice.text, float(first - second)

    def ask(self, model: str, stream: bool = False, prompt: str = "") -> tuple[str, str]:
        """The version that answered, the same in each chunk, and what it said."""
        options: dict[str, Any] = {"model": model, "prompt": prompt or self.prompt, "max_tokens": 1, "temperature": 0.0}
        answer: Any = client(self.endpoint).completions.create(**options, stream=stream)
        chunks = list(answer) if stream else [answer]
        (answered,) = {chunk.model for chunk in chunks}
        return answered, "".join(chunk.choices[0].text for chunk in chunks)

    @contextmanager
    def under(self, *models: str) -> Iterator[Counted]:
        """Sixteen clients ask, each in turn, half of them streams, until the block ends."""
        counted, stop = Counted(), threading.Event()

        def work(number: int) -> None:
            turn = number
            while not stop.is_set():
                model, turn = models[turn % len(models)], turn + 1
                try:
                    answered, text = self.ask(model, stream=number % 2 == 0)
                except openai.OpenAIError as error:
                    counted.failed(error)
                    time.sleep(0.2)
                else:
                    counted.answered(model, answered, text, self.said[answered])

        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(work, number) for number in range(CLIENTS)]
            try:
                yield counted
            finally:
                stop.set()
        for each in running:
            each.result()


@dataclass
class Counted:
    """What the clients saw."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(asked, answered) -> how often."""
    wrong: list[tuple[str, str]] = field(default_factory=list)
    """(answered, text) that this version does not say."""
    errors: list[tuple[float, Exception]] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock)

    def answered(self, asked: str, answered: str, text: str, expected: str) -> None:
        with self._lock:
            self.answers[asked, answered] += 1
            if text != expected:
                self.wrong.append((answered, text))

    def failed(self, error: Exception) -> None:
        with self._lock:
            self.errors.append((time.monotonic(), error))


def test_a_promotion_is_answered_soon(load: Load, registry: Registry) -> None:
    asking = client(load.endpoint)
    for version, how in ((3, "never loaded before"), (1, "loaded")):
        started = time.perf_counter()
        registry.set_alias("movies", "champion", version)
        moved_s = time.perf_counter() - started
        answer, took_s = None, 0.0  # the version of before answers until the new one is loaded
        while (answer is None or answer.model != f"{MOVIES}@{version}") and took_s < 60:
            answer = asking.completions.create(model=MOVIES, prompt="x", max_tokens=1)
            took_s = time.perf_counter() - started
        print(f"from set_alias to the first answer of {answer.model} ({how}): {took_s:.2f} s, the move {moved_s:.2f} s")
        assert answer.model == f"{MOVIES}@{version}"


def test_no_request_fails_while_versions_are_promoted(load: Load, registry: Registry) -> None:
    """Fault 31."""
    moves = 0
    with load.under(MOVIES, MOVIES, BASE) as counted:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            moves += 1
            registry.set_alias("movies", "champion", 1 + moves % 2)
            time.sleep(0.3)
    print(f"{moves} promotions under {CLIENTS} clients:", dict(counted.answers))
    assert not counted.errors, counted.errors[0]
    assert not counted.wrong, (counted.wrong, load.said)
    assert counted.answers.keys() == {(MOVIES, f"{MOVIES}@1"), (MOVIES, f"{MOVIES}@2"), (BASE, BASE)}


def test_a_canary_splits_and_its_shadow_is_recorded(load: Load, registry: Registry, log: Path) -> None:
    registry.set_alias("movies", "champion", 1)
    registry.set_alias("movies", "challenger", 2)
    set_traffic(registry, "movies", canary(50, by="user"))
    asking = client(load.endpoint)
    asking.models.list()  # looks at the registry anew
    seen: Counter[str] = Counter()
    for user in range(8):
        models = {
            asking.completions.create(model=MOVIES, prompt="x", max_tokens=1, user=f"u{user}").model for _ in range(2)
        }
        assert len(models) == 1
        seen.update(models)
    assert len(seen) == 2, seen
    set_traffic(registry, "movies", canary(100, shadow=True))
    asking.models.list()
    assert {load.ask(MOVIES, stream=True)[0] for _ in range(3)} == {f"{MOVIES}@1"}
    deadline = time.monotonic() + 30
    while len(shadows := [record for record in read_records(log) if record.shadow]) < 3:
        assert time.monotonic() < deadline, shadows
        time.sleep(0.1)
    assert {(record.answered, record.alias, record.agrees) for record in shadows} == {
        (f"{MOVIES}@2", "challenger", False)
    }
    set_traffic(registry, "movies", None)


def test_a_hundred_adapters_are_answered_with_eight_loaded(load: Load) -> None:
    names = [f"{BASE}:crowd{number * number % ADAPTERS:03d}" for number in range(40)]  # squares: some come often
    expected = load.said[f"{MOVIES}@1"]  # they are copies of it

    def one(name: str) -> float:
        started = time.perf_counter()
        answered, text = load.ask(name)
        assert (answered, text) == (f"{name}@1", expected)
        return time.perf_counter() - started

    with ThreadPoolExecutor(4) as pool:
        times = sorted(pool.map(one, names))
    print(f"{len(set(names))} of {ADAPTERS} adapters, {len(names)} requests: median {times[len(times) // 2]:.2f} s")


def test_all_metrics_are_exported(load: Load) -> None:
    """But for those of which nothing has happened yet."""
    silent = {f"raytune_ft_{name}" for name in ("shadow_dropped", "errors", "champion_held_back", "log_lines_lost")}
    wanted = {name for metric in METRICS if metric.name not in silent for name in metric.exported} | set(ENGINE_METRICS)
    assert httpx.get(f"{load.endpoint.base_url}/none").status_code == 404
    list(client(load.endpoint).completions.create(model=MOVIES, prompt="x", max_tokens=4, stream=True))
    assert load.endpoint.metrics_url is not None
    with load.under(MOVIES):  # an engine that does nothing tells nothing
        deadline = time.monotonic() + 40  # Ray's processes report every ten seconds
        while missing := wanted - exported(text := httpx.get(load.endpoint.metrics_url).text):
            assert time.monotonic() < deadline, sorted(missing)
            time.sleep(1)
    ours = [line for line in text.splitlines() if line.startswith("ray_raytune_ft_requests_total")]
    assert any(f'model="{MOVIES}@1"' in line and 'alias="champion"' in line for line in ours), ours
    loaded = [line.split()[-1] for line in text.splitlines() if line.startswith("ray_serve_num_multiplexed_models{")]
    assert loaded and all(float(number) <= LOADED for number in loaded)


def exported(text: str) -> set[str]:
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_a_killed_replica_is_replaced_and_nobody_answers_for_another(load: Load) -> None:
    """Fault 30."""
    health = load.endpoint.base_url.removesuffix("/v1") + "/health"
    assert httpx.get(health, timeout=20).status_code == 200
    replica = the_replica()
    engine = replica.children(recursive=True)
    with load.under(BASE, f"{MOVIES}@1", f"{MOVIES}@2") as counted:
        time.sleep(1)
        replica.kill()
        killed = time.monotonic()
        wait_until(lambda: httpx.get(health, timeout=20).status_code == 503, 60)
        sick_s = time.monotonic() - killed
        wait_until(lambda: httpx.get(health, timeout=20).status_code == 200, 300)
        well = time.monotonic()
        time.sleep(3)
    late = [error for when, error in counted.errors if when > well + 2]
    codes = Counter(str(getattr(error, "code", type(error).__name__)) for _, error in counted.errors)
    print(f"health said 503 after {sick_s:.1f} s, 200 after {well - killed:.0f} s; failed: {dict(codes)}")
    assert counted.errors and not late, late
    assert {getattr(error, "code", None) for _, error in counted.errors} == {"engine_unavailable"}
    assert not counted.wrong, (counted.wrong, load.said)
    assert all(asked == answered for asked, answered in counted.answers)
    assert not [process for process in engine if alive(process)]


def the_replica() -> Any:
    return next(
        process
        for process in psutil.Process().children(recursive=True)
        if "RegistryServer" in " ".join(process.cmdline()) or "RegistryServer" in process.name()
    )


def wait_until(found: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.3)
