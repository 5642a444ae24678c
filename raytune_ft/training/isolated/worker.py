"""The function that every Ray Train worker of an isolated trial runs: TRL's trainer on the prepared splits."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import Any

import ray.train
from ray.train.collective import broadcast_from_rank_zero

from raytune_ft.data.prepared import open_prepared
from raytune_ft.data.tokens.tokenizer import load_tokenizer
from raytune_ft.hardware.out_of_memory import out_of_memory_reason
from raytune_ft.methods.rooms import ROOMS
from raytune_ft.methods.weights.tuned import tuned_mib
from raytune_ft.metrics.report import METRICS, value_in
from raytune_ft.objectives.parts import TrainerParts
from raytune_ft.objectives.rooms import room
from raytune_ft.paths import checkpoint_name, read_json
from raytune_ft.training.base_loss import read_base_loss
from raytune_ft.training.guards import finite
from raytune_ft.training.isolated.deepspeed import deepspeed_settings
from raytune_ft.training.isolated.group import first_rank, last_checkpoint
from raytune_ft.training.isolated.reporting_callback import ReportingCallback
from raytune_ft.training.isolated.scratch import scratch_directory
from raytune_ft.training.kernel_cache import keep_few_kernels
from raytune_ft.training.lane.optimizer import decay_steps
from raytune_ft.training.metrics_log import read_metrics, write_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.progress import read_progress
from raytune_ft.training.spec import TrialSpec


def train_worker(config: dict[str, Any]) -> None:
    """Trains one trial to its end and writes `outcome.json`; a restarted group goes on from the last checkpoint.

    Args:
        config: `{"spec": TrialSpec}`.
    """
    spec: TrialSpec = config["spec"]
    if Outcome.read(spec.directory) is not None:  # a rank had ended the trial before the group was restarted
        return
    keep_few_kernels()
    local = scratch_directory(spec.directory)
    try:
        with last_checkpoint() as directory:
            outcome = _train(spec, local, str(directory) if directory else None)
    except (RuntimeError, MemoryError) as error:
        reason = out_of_memory_reason(error)
        if reason is None:
            raise
        Outcome(OutcomeKind.out_of_memory, reason).write(spec.directory)
        gc.collect()
        if ray.train.get_context().get_world_size() > 1:
            raise  # other ranks wait in a collective, so Ray Train must end the group; the new one returns above
        return
    finally:
        if ray.train.get_context().get_local_rank() == 0:
            shutil.rmtree(local, ignore_errors=True)
    if first_rank() and Outcome.read(spec.directory) is None:  # it was not stopped
        outcome.write(spec.directory)


def _train(spec: TrialSpec, local: Path, resume_from: str | None) -> Outcome:
    saved = read_json(Path(resume_from) / "trainer_state.json") if resume_from else {}
    step = saved.get("global_step", 0)
    earlier = [report for report in read_metrics(spec.directory.metrics) if report["step"] <= step]
    last = earlier[-1] if earlier else {}
    if step > last.get("step", 0):  # killed after the checkpoint and before its report line
        last = last | _unwritten(spec, saved, Path(resume_from or ""), last)
        earlier.append(last)
    if first_rank():
        write_metrics(spec.directory.metrics, earlier)
    if step >= spec.experiment.train.max_steps:  # killed after the last checkpoint; the trainer would take another step
        seconds = float(last.get("seconds", 0.0))
        return Outcome(
            OutcomeKind.completed, f"ran all {step} steps", step, value_in(last, spec.experiment.goals[0].name), seconds
        )
    # The first rank looks for all: their views of a shared disk may differ for a while.
    base_loss = broadcast_from_rank_zero(read_base_loss(spec) if first_rank() else None)
    needed = spec.experiment.objective.diverges_by is not None
    callback = ReportingCallback(spec, base_loss, float(last.get("seconds", 0.0)))
    callback.loads(step)
    try:
        trainer = _trainer(spec, local, callback, measure_base=needed and base_loss is None and resume_from is None)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        ImportError,
    ) as error:  # these errors occur on every rank and at every retry
        return Outcome(OutcomeKind.failed, f"{type(error).__name__}: {error}", step)
    trainer.train(resume_from_checkpoint=resume_from)
    done = trainer.state.global_step
    value = callback.leading
    if callback.diverged:
        return Outcome(OutcomeKind.diverged, callback.diverged, done, value, round(callback.seconds, 3))
    return Outcome(OutcomeKind.completed, f"ran all {done} steps", done, value, round(callback.seconds, 3))


def _unwritten(spec: TrialSpec, saved: dict[str, Any], checkpoint: Path, last: dict[str, Any]) -> dict[str, Any]:
    """Rebuilds a checkpoint's missing report line from the checkpoint; its seconds continue those of the last line."""
    step = saved["global_step"]
    logged = {key: value for entry in saved["log_history"] for key, value in entry.items()}
    values = {facts.name: finite(logged.get(facts.name)) for facts in spec.experiment.objective.reports}
    report = {"step": step, METRICS: values, "checkpoint": checkpoint_name(step)}
    seconds, progress = None, read_progress(spec.directory.progress)
    if progress is not None and progress.step_s is not None:
        took = progress.step_s * (step - last.get("step", 0)) + (progress.evaluation_s or 0.0)
        seconds = round(last.get("seconds", 0.0) + took, 3)
    further = {"tokens": logged.get("num_tokens"), "seconds": seconds, "adapter_mib": tuned_mib(checkpoint)}
    return report | {key: value for key, value in further.items() if value is not None}


def _trainer(spec: TrialSpec, local: Path, callback: ReportingCallback, *, measure_base: bool) -> Any:
    from datasets import load_from_disk
    from transformers import PrinterCallback, ProgressCallback, set_seed

    experiment = spec.experiment
    train, method = experiment.train, ROOMS[experiment.method.type]
    wsd = {"num_decay_steps": decay_steps(train)} if train.lr_scheduler_type == "warmup_stable_decay" else {}
    set_seed(experiment.seed)  # TRL makes the adapter before its trainer sets the seed
    arguments = dict[str, Any](
        output_dir=str(local),
        learning_rate=train.learning_rate,
        per_device_train_batch_size=train.per_device_train_batch_size,
        per_device_eval_batch_size=train.per_device_eval_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        max_steps=train.max_steps,
        lr_scheduler_type=train.lr_scheduler_type,
        lr_scheduler_kwargs=wsd,
        warmup_steps=train.warmup_steps,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        bf16=train.number_type == "bfloat16",
        fp16=train.number_type == "float16",
        gradient_checkpointing=train.gradient_checkpointing,
        optim="adamw_torch",
        seed=experiment.seed,
        data_seed=experiment.seed,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # the guard must see a NaN
        eval_on_start=measure_base,  # a new adapter changes nothing, so this is the base's loss
        eval_strategy="no",  # the callback triggers evaluation and saving at the report steps
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=experiment.resources.gpus_per_worker > 0,
        use_cpu=experiment.resources.gpus_per_worker == 0,
        ddp_find_unused_parameters=False,
        deepspeed=deepspeed_settings(experiment),
    )
    data = open_prepared(spec.data)
    trainer = room(experiment.objective).trainer(
        TrainerParts(
            experiment=experiment,
            model=method.load(experiment),
            adapter=method.adapter(experiment.method),
            arguments=arguments,
            train=load_from_disk(data.split("train")),
            validation=load_from_disk(data.split("validation")),
            tokenizer=load_tokenizer(experiment.base_model, experiment.trust_remote_code),
            callbacks=[callback],
        )
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer
