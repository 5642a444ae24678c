"""Checks for drift: compares an endpoint's logged requests with the rows that its adapter was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import load_recorded, with_parameters
from raytune_ft.data.bad_rows import BadRow, BadRows
from raytune_ft.data.prepared import PreparedData, open_prepared
from raytune_ft.data.rows import Row
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.data.tokens.tokenize import RowTokeniser
from raytune_ft.data.tokens.tokenizer import load_tokenizer
from raytune_ft.errors import InputError
from raytune_ft.monitoring.drift import Measure, compare_inputs, compare_perplexity
from raytune_ft.monitoring.feedback_rows import to_row
from raytune_ft.monitoring.perplexity import PART_ANSWER, PART_INPUT, PerplexityScorer, TokenRow
from raytune_ft.objectives.rooms import room
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.registry.location import open_registry
from raytune_ft.serving.records.records import PromptRecord, read_prompts

LIMITS = {
    "input_length": 0.1,
    "unseen_tokens": 0.02,
    "token_frequencies": 0.05,
    "input_perplexity": 1.25,
    "answer_perplexity": 1.25,
}
"""Measure -> how much it may exceed the training rows' own; for perplexities, by which factor."""
LEAST = 20
"""Fewest requests and training rows for a comparison."""


@dataclass(frozen=True)
class DriftReport:
    """The result of `raytune-ft monitor`."""

    adapter: str
    logged: int
    """Number of requests to this adapter in the log."""
    compared: int
    """Number of these that were sampled and tokenised."""
    training_rows: int
    left_out: dict[str, int]
    """Reason -> number of logged requests that were left out."""
    measures: tuple[Measure, ...]

    @property
    def drift(self) -> bool:
        """Whether any measure counts as drift."""
        return any(measure.drift for measure in self.measures)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as `--json` prints it."""
        return {**asdict(self), "drift": self.drift}


def check_drift(
    log_dir: Path,
    run: RunDirectory,
    *,
    sample: int = 200,
    since: datetime | None = None,
    model: bool = True,
    version: str | None = None,
    registry: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> DriftReport:
    """Compares a sample of logged requests with the data that the run's adapter was trained on.

    Args:
        log_dir: The endpoint's log directory; prompts must have been logged.
        run: The run that trained the adapter.
        sample: Number of requests to sample.
        since: Leave out earlier requests.
        model: Measure perplexity too, which loads the model.
        version: Registry version that scores, such as `movies@champion`; by default the run's winner.
        registry: The registry that holds `version`; by default the experiment's.
        log: Receives progress lines for the user.

    Raises:
        InputError: There are too few logged requests or training rows.
    """
    experiment, data = load_recorded(run), open_prepared(run.data)
    if run.winner.exists():
        experiment = with_parameters(experiment, read_json(run.winner)["parameters"])
    tokenizer = load_tokenizer(experiment.base_model, experiment.trust_remote_code)
    left_out: Counter[str] = Counter()
    requests = [each for each in read_prompts(log_dir, since) if _adapter(each.model) == experiment.adapter_name]
    if not requests:
        what = f"holds no logged request to {experiment.adapter_name}"
        raise InputError(str(log_dir), what, "serve with --log-prompts, or name the log of another endpoint with it")
    logged = _tokenised(experiment, data, tokenizer, _drawn(requests, sample), left_out)
    training = _split(experiment, data, "train")
    for name, rows in (("logged requests", logged), ("training rows", training)):
        if len(rows) < LEAST:
            what = f"{len(rows)} {name} can be compared ({dict(left_out) or 'none left out'})"
            raise InputError(str(log_dir), what, f"{LEAST} are needed")
    log(f"{len(logged)} requests against {len(training)} training rows")
    measures = compare_inputs(_inputs(logged), _inputs(training), LIMITS)
    if model:
        adapter = _adapter_directory(run, experiment, version, registry)
        log(f"scoring with {adapter.name}")
        surprise = PerplexityScorer(experiment, adapter, tokenizer)
        held_out = _drawn(_split(experiment, data, "validation"), len(logged))
        parts = [PART_INPUT, PART_ANSWER] if experiment.objective.marks_answers else [PART_ANSWER]
        for part in parts:
            name = f"{part}_perplexity"
            asked, usual = (surprise.losses(rows, part) for rows in (logged, held_out))
            measures.append(compare_perplexity(name, asked, usual, LIMITS[name]))
    return DriftReport(
        experiment.adapter_name, len(requests), len(logged), len(training), dict(left_out), tuple(measures)
    )


def _adapter(model: str) -> str:
    """Returns the adapter's name in a model id: `movies` for `base:movies@3`."""
    return model.partition(":")[2].partition("@")[0]


def _drawn(rows: Sequence[Any], most: int) -> list[Any]:
    import numpy as np

    order = np.random.default_rng(0).permutation(len(rows))[:most]
    return [rows[int(i)] for i in sorted(order)]


def _inputs(rows: Sequence[TokenRow]) -> list[Any]:
    import numpy as np

    return [np.array(row.input(), dtype=np.int32) for row in rows]


def _split(experiment: Experiment, data: PreparedData, name: str) -> list[TokenRow]:
    from datasets import load_from_disk

    rows = (room(experiment.objective).answered(row) for row in load_from_disk(data.split(name)))
    return [TokenRow(row.input_ids, row.labels) for row in rows]


def _tokenised(
    experiment: Experiment,
    data: PreparedData,
    tokenizer: Any,
    requests: Sequence[PromptRecord],
    left_out: Counter[str],
) -> list[TokenRow]:
    """Tokenises the logged requests as the training rows were, with the same truncation and labels."""
    template = ChatTemplate(tokenizer) if data.template_sha256 else None
    everywhere = not experiment.objective.marks_answers
    tokeniser = RowTokeniser(tokenizer, template, experiment.data.max_length, everywhere)
    rows = list(_of_form(requests, template is None, left_out))
    refused = BadRows(Path("requests"))
    found: list[TokenRow] = []
    for _, tokens in tokeniser.rows(rows, refused):
        if tokens is None:
            left_out["longer than max_length"] += 1
        else:
            found.append(TokenRow(tokens.input_ids, tokens.labels))
    left_out["the chat template refuses it"] += refused.count
    left_out += Counter()  # drops zero counts
    return found


def _of_form(requests: Sequence[PromptRecord], plain: bool, left_out: Counter[str]) -> Iterator[Row]:
    for request in requests:
        try:
            row = to_row(request.asked, request.answer)
        except BadRow as problem:
            left_out[problem.what] += 1
            continue
        if row.form.chat is not plain:
            yield row
        else:
            left_out["asked in another form than it was trained on"] += 1


def _adapter_directory(run: RunDirectory, experiment: Experiment, version: str | None, registry: Path | None) -> Path:
    if version is None:
        if not run.winner.exists():
            raise InputError(str(run.root), "has no winner.json", "name a version of the registry with --adapter")
        return Path(run.root / read_json(run.winner)["adapter"])
    opened = open_registry(registry or experiment.registry.path)
    found = opened.resolve(version)
    return opened.verified(found.adapter, found.version)
