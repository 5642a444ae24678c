"""The text of the experiment file that `init` writes, piece by piece."""

from __future__ import annotations

from raytune_ft.config.data import DataFormat
from raytune_ft.config.files.shipped import find
from raytune_ft.config.files.yaml import dump_text
from raytune_ft.config.methods.choice import METHODS

Size = str | None

_TEMPLATE = """\
# What is tuned, on what, and how far. `raytune-ft check {file}` checks every line before anything starts.
name: {name}                     # names runs/{name}, the study and the trackers' group
base_model: {base_model}         # a model directory, or a Hugging Face hub id
data:
  train: {train}                 # JSONL, one row a line
  validation: 0.1                # a JSONL file, or the fraction cut off train; trials are compared on it
{test}
  format: {format}               # {keys}
  max_length: 1024               # tokens in a row at most
{objective}
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
{evaluate}
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
  space: search_spaces/%s        # its ranges are for models and objectives like this one; or write one here
  algorithm: {type: tpe, seed: 0}
"""
_WHOLE = "{type: ddp}          # or {type: deepspeed, zero_stage: %d}, which shards what each worker holds"
_DDP = "{type: ddp}          # the one that this method was tried with"
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
_LORA = "method: {type: %s, r: 16, alpha: %d, target_modules: all-linear}%s"
_IN_4_BITS = "   # the base is held in 4 bits while it trains"
OBJECTIVES = {
    "sft": "objective: {type: sft, loss_on: completion}",
    "dpo": "objective: {type: dpo, beta: 0.1, loss_type: sigmoid}   # or ipo, hinge, ...; the base is the reference",
}
EVALUATE = {
    "sft": """\
# With a closed set of answers, accuracy and F1 are compared too:
# evaluate: {metrics: [loss, accuracy, macro_f1], labels: [" yes", " no"]}
evaluate: {metrics: [loss]}""",
    "dpo": "evaluate: {metrics: [preference_accuracy, loss]}   # the share of rows whose chosen answer is the likelier",
}


def starter_text(
    *,
    file: str,
    name: str,
    base_model: str,
    train: str,
    test: str | None,
    form: DataFormat,
    objective: str,
    method: str,
    size: Size,
) -> str:
    """Returns the experiment file.

    Args:
        file: Its own name.
        name: The experiment's name.
        base_model: The base.
        train: File of the training rows.
        test: File of the test rows, or None.
        form: The rows' format.
        objective: Name of the objective, which takes such rows.
        method: Name of the method.
        size: The base's size, or None where its name does not tell.
    """
    whole = METHODS[method].artefact == "model"
    alpha = 16 if size == "small" else 32  # as in the portfolio's studies
    lora = _LORA % (method, alpha, _IN_4_BITS if METHODS[method].base_loaded != "as_it_is" else "")
    return _TEMPLATE.format(
        file=file,
        name=dump_text(name),
        base_model=dump_text(base_model),
        train=dump_text(train),
        test=f"  test: {dump_text(test)}" if test else "  # test: test.jsonl          # rows no trial ever sees",
        format=form.value,
        keys=form.keys,
        objective=OBJECTIVES[objective],
        strategy=_strategy(method, size),
        method=_FULL if whole else lora,
        search=_search(objective, "full" if whole else "lora", size),
        evaluate=EVALUATE[objective],
    )


def _strategy(method: str, size: Size) -> str:
    whole = METHODS[method].artefact == "model"
    if "deepspeed" not in METHODS[method].strategies:
        return _DDP
    return _SHARDED if whole and size in ("7b_8b", "13b_70b") else _WHOLE % (3 if whole else 2)


def _search(objective: str, kind: str, size: Size) -> str:
    """Returns space and algorithm; qlora's best settings are lora's."""
    if objective == "sft":
        inline = {("lora", None): _INLINE, ("full", None): _INLINE_FULL, ("lora", "small"): _SMALL}
        return inline.get((kind, size), _SHIPPED % f"{kind}_sft_{size}.yaml")
    shipped = f"{kind}_{objective}.yaml"
    if find(f"search_spaces/{shipped}").is_file():
        return _SHIPPED % shipped
    return _INLINE_FULL if kind == "full" else _INLINE
