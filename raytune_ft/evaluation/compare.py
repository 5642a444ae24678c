"""Compares base and winner on a test split that no trial saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from raytune_ft.config.files.overrides import check_section
from raytune_ft.config.load import load_recorded, with_parameters
from raytune_ft.data.prepared import open_prepared
from raytune_ft.data.rows import Row
from raytune_ft.data.tokens.labels import read_labels
from raytune_ft.data.tokens.tokenizer import load_tokenizer
from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.evaluation.interval import paired_interval
from raytune_ft.evaluation.metrics import metric_value
from raytune_ft.evaluation.recorded import write_scores
from raytune_ft.evaluation.retention import GeneralText, general_text, perplexity, tokenised
from raytune_ft.evaluation.row_progress import RowProgress
from raytune_ft.evaluation.uses import Use, note_use
from raytune_ft.hardware.here import in_type_of_this_machine
from raytune_ft.methods.rooms import ROOMS
from raytune_ft.methods.weights.base_model import load_base, placed
from raytune_ft.methods.weights.base_weights import recorded_base_sha256
from raytune_ft.methods.weights.tuned import is_adapter, load_tuned, tuned_sha256, with_adapter
from raytune_ft.objectives.parts import Scoring
from raytune_ft.objectives.rooms import room
from raytune_ft.objectives.scoring.scores import Scores
from raytune_ft.paths import RunDirectory, read_json, write_json

EXAMPLES = 20


def evaluate_run(run: RunDirectory, log: Callable[[str], None], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Scores base and winner on the test split and on general text, and writes `evaluation.json`.

    Args:
        run: The run directory.
        log: Receives lines on progress and warnings.
        overrides: Overrides of the run's settings, of the form `evaluate.key=value`.

    Returns:
        The contents of the file: metrics of both systems, the difference of each with its confidence interval,
        perplexities of general text, and examples.

    Raises:
        InputError: The run has no winner, the experiment has no test split, or labels or settings are wrong.
    """
    check_section("evaluate", overrides)
    if not run.winner.exists():
        raise InputError(str(run.root), "has no winner.json", "run raytune-ft sweep or train first")
    winner = read_json(run.winner)
    experiment = with_parameters(load_recorded(run, overrides), winner["parameters"])
    objective = room(experiment.objective)
    data = open_prepared(run.data)
    if "test" not in data.sizes:
        raise InputError("data.test", "missing, so there is nothing that no trial saw", "add a test file")
    if data.sizes["test"] < 2:
        raise InputError("data.test", "has one row, and the spread of one is unknown", "give at least two")
    if winner["data_fingerprint"] != data.fingerprint:
        raise IntegrityError(f"{run.data}: not the data that {run.winner} was searched on; run the sweep again")

    retention = experiment.promotion.retention
    text = general_text(retention.text) if retention else None
    from datasets import load_from_disk

    experiment = in_type_of_this_machine(experiment, log)
    tokenizer = load_tokenizer(experiment.base_model, experiment.trust_remote_code)
    labels = read_labels(tokenizer, experiment.evaluate.labels, data)
    adapter = run.root / winner["adapter"]
    rows = load_from_disk(data.split("test"))
    adapter_sha256, fluency = tuned_sha256(adapter), dict[str, float]()
    # The use is recorded before the work, because the result may influence a decision as soon as it is there.
    uses = note_use(run, Use("evaluate", run.root.name, str(winner["trial"]), adapter_sha256, "base"))
    if uses is not None:
        log(uses.words(experiment.evaluate.confidence))

    def scored(name: str, model: Any, *, fluently: bool = True) -> tuple[Scores, float]:
        started = time.monotonic()
        how = Scoring(tokenizer.pad_token_id, experiment.evaluate.batch_size, RowProgress(log, name), labels, log)
        scores = objective.score(model, rows, how)
        seconds = round(time.monotonic() - started, 2)
        if text is not None and fluently:
            log(f"{name}: reading {len(text.texts)} general texts")
            fluency[name], fluency["tokens"] = perplexity(model, tokenised(text, tokenizer), tokenizer.pad_token_id)
        return scores, seconds

    if is_adapter(adapter):
        model = placed(load_tuned(experiment, adapter))
        with model.disable_adapter():
            base, base_seconds = scored("base", model)
        tuned, tuned_seconds = scored("winner", model)
    else:  # the base is freed before the winner is loaded
        base, base_seconds = scored("base", placed(load_base(experiment)))
        tuned, tuned_seconds = scored("winner", placed(load_tuned(experiment, adapter)))

    as_trained = None
    if experiment.method.base_loaded != "as_it_is":
        model = None  # frees it before the other one is loaded
        log(f"winner on the base as it was trained on ({experiment.method.base_loaded})")
        model = with_adapter(ROOMS[experiment.method.type].load(experiment), adapter)
        as_trained, _ = scored("winner", placed(model), fluently=False)

    settings = experiment.evaluate
    result = {
        "schema": 1,
        "experiment": experiment.name,
        "split": "test",
        "rows": len(rows),
        "dtype": experiment.train.number_type,
        "metrics": list(settings.metrics),
        "labels": list(settings.labels),
        "label_rows": _label_rows(base, settings.labels),
        "settings": settings.model_dump(mode="json"),
        "winner": {
            "trial": winner["trial"],
            "step": winner["step"],
            "adapter_sha256": adapter_sha256,
            "base_sha256": recorded_base_sha256(experiment.base_model),
        },
        "systems": {
            name: _values(scores, settings.metrics) | {"seconds": seconds}
            for name, scores, seconds in (("base", base, base_seconds), ("winner", tuned, tuned_seconds))
        },
        "difference": {
            metric: asdict(paired_interval(metric, base, tuned, settings.confidence)) for metric in settings.metrics
        },
        "on_trained_base": _values(as_trained, settings.metrics) if as_trained else None,
        "retention": _retention(text, fluency),
        "examples": _examples(data.read_test_rows(), base, tuned, settings.labels),
    }
    write_scores(run.scores, adapter_sha256, tuned)
    write_json(run.evaluation, result)
    return result


def _values(scores: Scores, metrics: Sequence[str]) -> dict[str, float]:
    return {metric: metric_value(metric, scores) for metric in metrics}


def _retention(text: GeneralText | None, fluency: dict[str, float]) -> dict[str, Any] | None:
    """Returns the perplexities of general text and their ratio; None if it is switched off."""
    if text is None:
        return None
    return {
        "texts": len(text.texts),
        "text_sha256": text.sha256,
        **fluency,
        "ratio": fluency["winner"] / fluency["base"],
    }


def _label_rows(scores: Scores, labels: list[str]) -> dict[str, int]:
    """Returns the number of rows that expect each label."""
    expected = [] if scores.expected is None else scores.expected.tolist()
    return {label: expected.count(at) for at, label in enumerate(labels)}


def _examples(rows: Sequence[Row], base: Scores, tuned: Scores, labels: list[str]) -> list[dict[str, Any]]:
    """Returns example rows for the report, first those on which the systems disagree."""
    order = list(range(len(rows)))
    chosen: dict[str, list[str]] = {}
    if base.choice is not None and tuned.choice is not None:
        chosen = {"base": [labels[k] for k in base.choice], "winner": [labels[k] for k in tuned.choice]}
        order.sort(key=lambda i: chosen["base"][i] == chosen["winner"][i])
    return [
        {
            "row": i,
            "prompt": rows[i].question,
            "expected": rows[i].answer,
            "base": chosen["base"][i] if chosen else None,
            "winner": chosen["winner"][i] if chosen else None,
        }
        for i in order[:EXAMPLES]
    ]
