"""Writes the experiment file of `init`, with the user's model and data and an explanation of every choice."""

from __future__ import annotations

import json
import re
from pathlib import Path

from raytune_ft.config.data import DataFormat, format_of_keys
from raytune_ft.config.files.yaml import dump_text
from raytune_ft.config.starter.model_size import size_of
from raytune_ft.errors import InputError
from raytune_ft.names import check_name
from raytune_ft.paths import write_text

_TEMPLATE = """\
# What is tuned, on what, and how far. `raytune-ft check {file}` checks every line before anything starts.
name: {name}                     # names runs/{name}, the study and the trackers' group
base_model: {base_model}         # a model directory, or a Hugging Face hub id
data:
  train: {train}                 # JSONL, one row a line
  validation: 0.1                # a JSONL file, or the fraction cut off train; trials are compared on it
{test}
  format: {format}               # prompt_completion: {{"prompt", "completion"}}; messages: {{"messages": [...]}}
  max_length: 1024               # tokens in a row at most
objective: {{type: sft, loss_on: completion}}
{method}
train:
  per_device_train_batch_size: 8
  max_steps: 200                 # of a trial that is never stopped
  lr_scheduler_type: constant_with_warmup   # a constant rate does not lie to early stopping
  warmup_steps: 5
  dtype: auto                    # what the devices multiply fast: bfloat16, float16 or float32
resources:
  workers: 1                     # Ray Train workers of one trial
  cpus_per_worker: 1
  gpus_per_worker: 0             # 1 on a GPU machine
  strategy: {strategy}
search:
{search}  scheduler: {{type: asha, grace_period: 40, reduction_factor: 3}}
  trials: 16
  max_concurrent: 1              # trials at once
# With a closed set of answers, accuracy and F1 are compared too:
# evaluate: {{metrics: [loss, accuracy, macro_f1], labels: [" yes", " no"]}}
evaluate: {{metrics: [loss]}}
tracking: {{tensorboard: true}}    # wandb: {{mode: offline, project: my-project}}
registry: {{path: registry}}
"""


_INLINE = """\
  space:                         # inline, or a file of search_spaces/; keys are paths into this file
    parameters:
      train.learning_rate: {loguniform: [5.0e-5, 2.0e-3]}
      method.r: {choice: [8, 16, 32]}
      train.per_device_train_batch_size: {choice: [4, 8, 16]}
    start_from:
      - {train.learning_rate: 2.0e-4, method.r: 16, train.per_device_train_batch_size: 8}
  algorithm: {type: tpe, seed: 0}
"""
_SMALL = """\
  space:                         # inline, or a file of search_spaces/; keys are paths into this file
    parameters:
      train.learning_rate: {loguniform: [1.0e-4, 5.0e-3]}
      method.r: {choice: [4, 8, 16, 32]}
      train.per_device_train_batch_size: {choice: [4, 8, 16]}
  algorithm: {type: portfolio, file: search_spaces/portfolios/lora_sft_small.yaml, first: 4}   # then tpe
"""
_SHIPPED = """\
  space: search_spaces/%s_sft_%s.yaml   # its ranges are for models of this size; or write one here
  algorithm: {type: tpe, seed: 0}
"""
_WHOLE = "{type: ddp}          # or {type: deepspeed, zero_stage: %d}, which shards what each worker holds"
_SHARDED = "{type: deepspeed, zero_stage: 3}   # the workers share weights, gradients and optimizer; take several"
_FULL = "method: {type: full}           # all weights move; the winner is a model of its own"
_INLINE_FULL = """\
  space:                         # inline, or a file of search_spaces/; keys are paths into this file
    parameters:
      train.learning_rate: {loguniform: [5.0e-6, 2.0e-4]}   # a tenth of LoRA's
      train.per_device_train_batch_size: {choice: [4, 8, 16]}
    start_from:
      - {train.learning_rate: 2.0e-5, train.per_device_train_batch_size: 8}
  algorithm: {type: tpe, seed: 0}
"""
_SEARCHES = {("lora", None): _INLINE, ("full", None): _INLINE_FULL, ("lora", "small"): _SMALL}


def write_starter(
    to: Path, *, name: str | None, base_model: str, train: Path, test: Path | None, full: bool = False
) -> None:
    """Writes a commented experiment file that `load_experiment` reads.

    Raises:
        InputError: `to` exists, a data file is missing, or its first row has no known format.
    """
    if to.exists():
        raise InputError(str(to), "already exists", "give another file with --to")
    for path in (train, test):
        if path is not None and not path.is_file():
            raise InputError(str(path), "no such file", "give a JSONL file")
    name = check_name("--name", name) if name else _name_of(train)
    method, size = "full" if full else "lora", size_of(base_model)
    alpha = 16 if size == "small" else 32  # as in the portfolio's studies
    lora = f"method: {{type: lora, r: 16, alpha: {alpha}, target_modules: all-linear}}"
    held_out = f"  test: {dump_text(str(test))}" if test else "  # test: test.jsonl          # rows no trial ever sees"
    write_text(
        to,
        _TEMPLATE.format(
            file=to,
            name=dump_text(name),
            base_model=dump_text(base_model),
            train=dump_text(str(train)),
            test=held_out,
            format=_format_of(train),
            strategy=_SHARDED if full and size in ("7b_8b", "13b_70b") else _WHOLE % (3 if full else 2),
            method=_FULL if full else lora,
            search=_SEARCHES.get((method, size), _SHIPPED % (method, size)),
        ),
    )


def _name_of(train: Path) -> str:
    plain = re.sub(r"[^a-z0-9-]+", "-", train.name.lower().split(".")[0]).strip("-")
    return plain[:64].strip("-") or "experiment"


def _format_of(train: Path) -> DataFormat:
    with train.open(encoding="utf-8-sig", errors="replace") as stream:
        first = next((line for line in stream if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError as error:
        raise InputError(f"{train}:1", "is not a JSON object", "write one row a line, as JSON") from error
    if isinstance(row, dict) and (found := format_of_keys(row)):
        return found
    keys = sorted(row) if isinstance(row, dict) else type(row).__name__
    remedy = 'write {"prompt", "completion"}, {"messages"} or {"prompt", "chosen", "rejected"}'
    raise InputError(f"{train}:1", f"has {keys}, no known format", remedy)
