"""The transformers side of the engine gates: `python -m raytune_ft.promotion.reference SPEC RESULT`.

It scores the champion on the test split if one is given, and answers the rows that vLLM is asked too with the run's
winner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Evaluate
from raytune_ft.config.load import load_recorded, with_parameters
from raytune_ft.data.prepared import open_prepared
from raytune_ft.data.tokens.labels import read_labels
from raytune_ft.data.tokens.tokenize import IGNORED
from raytune_ft.data.tokens.tokenizer import load_tokenizer
from raytune_ft.evaluation.recorded import scores_to_json
from raytune_ft.evaluation.row_progress import RowProgress
from raytune_ft.hardware.here import in_type_of_this_machine
from raytune_ft.methods.weights.base_model import placed
from raytune_ft.methods.weights.tuned import is_adapter, load_tuned
from raytune_ft.objectives.parts import Scoring
from raytune_ft.objectives.rooms import room
from raytune_ft.objectives.scoring.answers import answer_logprobs
from raytune_ft.objectives.scoring.scores import Scores
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.promotion.asked import Answers, Asked, choose_rows
from raytune_ft.promotion.child import child_main, tell

BATCH = 4  # rows


def work(spec: dict[str, Any]) -> Mapping[str, Any]:
    """Scores the champion and answers the rows with the winner.

    Args:
        spec: `run`, `winner` (directory), `champion` (directory or null), `rows` (their number), `greedy` (most tokens
            of a greedy answer), `evaluate` (the settings with which the winner was scored), `scored_in` (the number
            type in which it was scored, null if that was not recorded).

    Returns:
        `champion`: its scores, or null; `rows`: the rows that were asked; `answers`: the fields of one `parity.Answer`
        for each row; `dtype`: the number type of the answers, in which an endpoint on this machine would serve.
    """
    from datasets import load_from_disk

    run = RunDirectory(Path(spec["run"]))
    experiment = with_parameters(load_recorded(run), read_json(run.winner)["parameters"])
    evaluate = Evaluate.model_validate(spec["evaluate"])
    tokenizer = load_tokenizer(experiment.base_model, experiment.trust_remote_code)
    data = open_prepared(run.data)
    rows = load_from_disk(data.split("test"))

    def scored(model: Any) -> Scores:
        tell(f"scoring the champion on the {len(rows)} test rows that the winner was scored on")
        labels, progress = read_labels(tokenizer, evaluate.labels, data), RowProgress(tell, "champion")
        how = Scoring(tokenizer.pad_token_id, evaluate.batch_size, progress, labels, tell)
        return room(experiment.objective).score(model, rows, how)

    serving = in_type_of_this_machine(experiment, tell)
    scoring = experiment.computing_in(spec["scored_in"]) if spec["scored_in"] else serving
    winner, champion = Path(spec["winner"]), Path(spec["champion"]) if spec["champion"] else None
    theirs, alike = None, scoring.train.dtype == serving.train.dtype
    on_one_base = champion is not None and alike and is_adapter(winner) and is_adapter(champion)
    if champion is not None and not on_one_base:  # frees the one model before the other is loaded
        theirs = scored(placed(load_tuned(scoring, champion)))
    model = placed(load_tuned(serving, winner))
    if on_one_base:
        model.load_adapter(str(champion), "champion")
        model.set_adapter("champion")
        theirs = scored(model)
        model.set_adapter("default")
    model.eval()
    answered = Answers(room(experiment.objective).answered, rows)
    asked = choose_rows(answered, data.read_test_rows(), tokenizer, spec["rows"]) if spec["rows"] else []
    return {
        "champion": scores_to_json(theirs) if theirs else None,
        "rows": [row.to_json() for row in asked],
        "dtype": serving.train.number_type,
        "answers": answers(model, asked, spec["greedy"], tokenizer.pad_token_id, tokenizer.eos_token_id),
    }


def answers(
    model: Any, rows: Sequence[Asked], greedy: int, pad_token_id: int, end_token_id: int
) -> list[dict[str, Any]]:
    """Returns the fields of one `parity.Answer` for each row: its log-probabilities and the greedy answer."""
    found = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        tokenised = [
            {"input_ids": row.prompt + row.answer, "labels": _question_labels(row) + row.answer} for row in batch
        ]
        logprobs = answer_logprobs(model, tokenised, pad_token_id)
        steps = min(greedy, max(len(row.answer) for row in batch))
        given = _greedy(model, [row.prompt for row in batch], steps, pad_token_id, end_token_id)
        found += [
            {
                "question": each[: len(row.places)],
                "answer": each[len(row.places) :],
                "tokens": tokens,
                "margins": margins,
            }
            for row, each, (tokens, margins) in zip(batch, logprobs, given, strict=True)
        ]
    return found


def _question_labels(row: Asked) -> list[int]:
    return [token if at in row.places else IGNORED for at, token in enumerate(row.prompt)]


def _greedy(
    model: Any, prompts: list[list[int]], steps: int, pad_token_id: int, end_token_id: int
) -> list[tuple[list[int], list[float]]]:
    """Returns the greedy tokens up to and including the end token, and the lead of each over the second in nats."""
    import torch

    width = max(map(len, prompts))
    device = next(model.parameters()).device
    ids = torch.tensor([[pad_token_id] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    positions, cache = (mask.cumsum(dim=1) - 1).clamp(min=0), None
    chosen, leads = [], []
    with torch.inference_mode():
        for _ in range(steps):
            output = model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                logits_to_keep=1,
            )  # fmt: skip
            cache = output.past_key_values
            best = output.logits[:, -1].float().topk(2)
            ids = best.indices[:, :1]
            chosen.append(ids[:, 0].tolist())
            leads.append((best.values[:, 0] - best.values[:, 1]).tolist())
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
            positions = positions[:, -1:] + 1
    found = []
    for row in range(len(prompts)):
        tokens = [step[row] for step in chosen]
        length = tokens.index(end_token_id) + 1 if end_token_id in tokens else len(tokens)
        found.append((tokens[:length], [step[row] for step in leads][:length]))
    return found


if __name__ == "__main__":
    child_main(work)
