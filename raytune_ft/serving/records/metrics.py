"""The endpoint's Prometheus metrics by adapter version, which the ingress replicas export through Ray."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from raytune_ft.serving.records.records import RequestRecord

_log = logging.getLogger(__name__)
UNKNOWN = "unknown"
"""The label `model` of requests that no model answered; the id they asked for is left out, since it may be anything."""
GONE = 499  # the recorded status if the client disconnected before the end


@dataclass(frozen=True)
class Metric:
    """Definition of one metric; Ray exports it with the prefix `ray_`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    labels: tuple[str, ...] = ("model",)
    boundaries: tuple[float, ...] = ()

    @property
    def exported(self) -> tuple[str, ...]:
        """The names under which Prometheus sees the metric."""
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
        return tuple(f"ray_{self.name}{suffix}" for suffix in suffixes[self.kind])


Sample = tuple[dict[str, str], float]
"""The labels and the value of one time series."""
_GAUGE_EVERY_S = 5.0
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

REQUESTS = Metric(
    "raytune_ft_requests", "counter", "Requests that ended.", ("model", "alias", "route", "status", "shadow")
)
ERRORS = Metric("raytune_ft_errors", "counter", "Requests that ended in an error, by its code.", ("model", "code"))
REFUSED = Metric("raytune_ft_refused", "counter", "Requests that did not pass the door, by status.", ("status",))
PROMPT_TOKENS = Metric("raytune_ft_prompt_tokens", "counter", "Tokens of prompts that were answered.")
COMPLETION_TOKENS = Metric("raytune_ft_completion_tokens", "counter", "Tokens of answers.")
TTFT = Metric(
    "raytune_ft_time_to_first_token_seconds", "histogram", "To the first token, of streams.", boundaries=_SECONDS
)
TPOT = Metric(
    "raytune_ft_time_per_output_token_seconds",
    "histogram",
    "Between two tokens after the first, of streams.",
    boundaries=_TOKEN_SECONDS,
)
REQUEST_TIME = Metric("raytune_ft_request_seconds", "histogram", "To the end of the answer.", boundaries=_SECONDS)
IN_FLIGHT = Metric("raytune_ft_requests_in_flight", "gauge", "Requests that are being answered or wait for it.")
SHADOW_WAITING = Metric("raytune_ft_shadow_waiting", "gauge", "Requests that wait to be asked in the shadow.", ())
SHADOW_DROPPED = Metric("raytune_ft_shadow_dropped", "counter", "Requests that the shadow had no room for.")
SHADOW_COMPARED = Metric(
    "raytune_ft_shadow_compared", "counter", "Answers of the shadow beside the champion's.", ("model", "agrees")
)
CHAMPION_HELD_BACK = Metric(
    "raytune_ft_champion_held_back", "gauge", "1 while this champion does not answer and the version of before does."
)
REGISTRY_AGE = Metric("raytune_ft_registry_age_seconds", "gauge", "Since the registry was last read.", ())
LOG_LOST = Metric("raytune_ft_log_lines_lost", "counter", "Lines that no log of the endpoint has.", ())
METRICS = (
    REQUESTS, ERRORS, REFUSED, PROMPT_TOKENS, COMPLETION_TOKENS, TTFT, TPOT, REQUEST_TIME, IN_FLIGHT,
    SHADOW_WAITING, SHADOW_DROPPED, SHADOW_COMPARED, CHAMPION_HELD_BACK, REGISTRY_AGE, LOG_LOST,
)  # fmt: skip
ENGINE_METRICS = (
    "ray_vllm_num_requests_running", "ray_vllm_num_requests_waiting", "ray_vllm_kv_cache_usage_perc",
    "ray_serve_num_multiplexed_models",
)  # fmt: skip
"""Metrics that vLLM and Ray Serve export themselves, as far as the dashboard shows them."""


def _in_ray(metric: Metric) -> Any:
    from ray.util import metrics

    match metric.kind:
        case "counter":
            return metrics.Counter(metric.name, metric.description, metric.labels)
        case "gauge":
            return metrics.Gauge(metric.name, metric.description, metric.labels)
        case "histogram":
            return metrics.Histogram(metric.name, metric.description, list(metric.boundaries), metric.labels)


class Metrics:
    """Counts the finished and running requests of this replica.

    Args:
        make: Creates the counter, gauge or histogram of a definition; by default Ray's.
    """

    def __init__(self, make: Callable[[Metric], Any] = _in_ray) -> None:
        self._of = {metric: make(metric) for metric in METRICS}
        self._in_flight: Counter[str] = Counter()
        self._shadow_waiting = 0
        self._polled: dict[Metric, Callable[[], list[Sample]]] = {}
        self._last: dict[tuple[Metric, tuple[tuple[str, str], ...]], float] = {}

    def poll(self, metric: Metric, read: Callable[[], list[Sample]]) -> None:
        """Registers `read`, which returns a gauge's values or a counter's totals each time the gauges are exported."""
        self._polled[metric] = read

    def keep_told(self, every_s: float = _GAUGE_EVERY_S) -> None:
        """Starts a thread that sets all gauges regularly.

        Ray drops a gauge that was not set for twice its report interval.
        """

        def tell() -> None:
            while True:
                time.sleep(every_s)
                for model, count in list(self._in_flight.items()):
                    self._of[IN_FLIGHT].set(count, {"model": model})
                self.shadow_waiting(self._shadow_waiting)
                self.tell_polled()

        threading.Thread(target=tell, name="raytune-ft-gauges", daemon=True).start()

    def tell_polled(self) -> None:
        """Exports the polled metrics: a gauge's missing time series are set to 0, counters grow by the difference."""
        for metric, read in list(self._polled.items()):
            try:
                self._tell(metric, read())
            except Exception:  # it must not end the thread, which exports the other metrics too
                _log.exception("%s can't be told", metric.name)

    def _tell(self, metric: Metric, samples: list[Sample]) -> None:
        found = {(metric, tuple(sorted(labels.items()))): value for labels, value in samples}
        if metric.kind == "gauge":
            gone = {each: 0.0 for each in self._last if each[0] is metric}
            for (_, labels), value in (gone | found).items():
                self._of[metric].set(value, dict(labels))
        else:
            for key, value in found.items():
                if new := value - self._last.get(key, 0.0):
                    self._of[metric].inc(new, dict(key[1]))
        self._last |= found

    def observe(self, record: RequestRecord) -> None:
        """Counts a request that ended."""
        model = record.answered or UNKNOWN
        by_model = {"model": model}
        labels = {**by_model, "alias": record.alias or "", "route": record.route}
        labels |= {"status": str(record.status), "shadow": str(record.shadow).lower()}
        self._of[REQUESTS].inc(1, labels)
        if record.status >= 400 and record.status != GONE:
            self._of[ERRORS].inc(1, {**by_model, "code": record.code or UNKNOWN})
        if record.prompt_tokens:
            self._of[PROMPT_TOKENS].inc(record.prompt_tokens, by_model)
        if record.completion_tokens:
            self._of[COMPLETION_TOKENS].inc(record.completion_tokens, by_model)
        if record.agrees is not None:
            self._of[SHADOW_COMPARED].inc(1, {**by_model, "agrees": str(record.agrees).lower()})
        if not record.shadow and record.status < 400:
            self._observe_times(record, by_model)

    def _observe_times(self, record: RequestRecord, by_model: dict[str, str]) -> None:
        if record.total_ms is None:
            return
        self._of[REQUEST_TIME].observe(record.total_ms / 1000, by_model)
        if record.ttft_ms is None:
            return
        self._of[TTFT].observe(record.ttft_ms / 1000, by_model)
        if (record.completion_tokens or 0) > 1:
            assert record.completion_tokens is not None
            between = (record.total_ms - record.ttft_ms) / 1000 / (record.completion_tokens - 1)
            self._of[TPOT].observe(between, by_model)

    def refused(self, status: int) -> None:
        """Counts a request that the guard refused."""
        self._of[REFUSED].inc(1, {"status": str(status)})

    def begun(self, model: str) -> None:
        """Counts a request of the model as running."""
        self._in_flight[model] += 1
        self._of[IN_FLIGHT].set(self._in_flight[model], {"model": model})

    def ended(self, model: str) -> None:
        """Counts a request of the model as no longer running."""
        self._in_flight[model] -= 1
        self._of[IN_FLIGHT].set(self._in_flight[model], {"model": model})

    def shadow_waiting(self, count: int) -> None:
        """Sets the number of waiting shadow requests."""
        self._shadow_waiting = count
        self._of[SHADOW_WAITING].set(count, {})

    def shadow_dropped(self, model: str) -> None:
        """Counts a shadow request that was dropped because the queue was full."""
        self._of[SHADOW_DROPPED].inc(1, {"model": model})
