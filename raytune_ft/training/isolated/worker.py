"""The function that every Ray Train worker of an isolated trial runs: TRL's SFTTrainer on the tokenised splits."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import Any

import ray.train
from ray.train.collective import broadcast_from_rank_zero

from raytune_ft.config.attention import in_transformers
from raytune_ft.config.training import DeepSpeed, Full, Lora
from raytune_ft.data.prepared import open_prepared
from raytune_ft.data.tokens.tokenizer import load_tokenizer
from raytune_ft.metrics.named import EVAL_LOSS
from raytune_ft.metrics.report import METRICS, value_in
from raytune_ft.paths import checkpoint_name, read_json
from raytune_ft.training.base_loss import read_base_loss
from raytune_ft.training.guards import finite, out_of_memory_reason
from raytune_ft.training.isolated.deepspeed import deepspeed_settings
from raytune_ft.training.isolated.reporting_callback import ReportingCallback
from raytune_ft.training.isolated.scratch import scratch_directory
from raytune_ft.training.kernel_cache import keep_few_kernels
from raytune_ft.training.lane.optimizer import decay_steps
from raytune_ft.training.metrics_log import read_metrics, write_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.progress import TrialProgress, read_progress
from raytune_ft.training.spec import TrialSpec
from raytune_ft.training.tuned import tuned_mib
from raytune_ft.training.weights.base_model import load_base


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
    checkpoint = ray.train.get_checkpoint()
    try:
        if checkpoint is None:
            outcome = _train(spec, local, None)
        else:
            with checkpoint.as_directory() as directory:
                outcome = _train(spec, local, directory)
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
    if _first() and Outcome.read(spec.directory) is None:  # it was not stopped
        outcome.write(spec.directory)


def _train(spec: TrialSpec, local: Path, resume_from: str | None) -> Outcome:
    saved = read_json(Path(resume_from) / "trainer_state.json") if resume_from else {}
    step = saved.get("global_step", 0)
    earlier = [report for report in read_metrics(spec.directory.metrics) if report["step"] <= step]
    last = earlier[-1] if earlier else {}
    if step > last.get("step", 0):  # killed after the checkpoint and before its report line
        last = last | _unwritten(saved, Path(resume_from or ""), last, read_progress(spec.directory.progress))
        earlier.append(last)
    if _first():
        write_metrics(spec.directory.metrics, earlier)
    if step >= spec.experiment.train.max_steps:  # killed after the last checkpoint; the trainer would take another step
        seconds = float(last.get("seconds", 0.0))
        return Outcome(
            OutcomeKind.completed, f"ran all {step} steps", step, value_in(last, spec.experiment.goals[0].name), seconds
        )
    # The first rank looks for all: their views of a shared disk may differ for a while.
    base_loss = broadcast_from_rank_zero(read_base_loss(spec) if _first() else None)
    callback = ReportingCallback(spec, base_loss, float(last.get("seconds", 0.0)))
    callback.loads(step)
    try:
        trainer = _trainer(spec, local, callback, measure_base=base_loss is None and resume_from is None)
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
    value = finite(callback.last_loss)
    if callback.diverged:
        return Outcome(OutcomeKind.diverged, callback.diverged, done, value, round(callback.seconds, 3))
    return Outcome(OutcomeKind.completed, f"ran all {done} steps", done, value, round(callback.seconds, 3))


def _unwritten(
    saved: dict[str, Any], checkpoint: Path, last: dict[str, Any], progress: TrialProgress | None
) -> dict[str, Any]:
    """Rebuilds a checkpoint's missing report line from the checkpoint; its seconds continue those of the last line."""
    step = saved["global_step"]
    logged = {key: value for entry in saved["log_history"] for key, value in entry.items()}
    report = {"step": step, METRICS: {EVAL_LOSS: finite(logged.get("eval_loss"))}, "checkpoint": checkpoint_name(step)}
    seconds = None
    if progress is not None and progress.step_s is not None:
        took = progress.step_s * (step - last.get("step", 0)) + (progress.evaluation_s or 0.0)
        seconds = round(last.get("seconds", 0.0) + took, 3)
    further = {"tokens": logged.get("num_tokens"), "seconds": seconds, "adapter_mib": tuned_mib(checkpoint)}
    return report | {key: value for key, value in further.items() if value is not None}


def _first() -> bool:
    return bool(ray.train.get_context().get_world_rank() == 0)


def _trainer(spec: TrialSpec, local: Path, callback: ReportingCallback, *, measure_base: bool) -> Any:
    from datasets import load_from_disk
    from transformers import PrinterCallback, ProgressCallback, set_seed
    from trl.trainer.sft_config import SFTConfig

    from raytune_ft.training.isolated.answer_trainer import AnswerTrainer

    experiment = spec.experiment
    train, method, strategy = experiment.train, experiment.method, experiment.resources.strategy
    wsd = {"num_decay_steps": decay_steps(train)} if train.lr_scheduler_type == "warmup_stable_decay" else {}
    set_seed(experiment.seed)  # TRL makes the adapter before its trainer sets the seed
    arguments = SFTConfig(
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
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
    )
    data = open_prepared(spec.data)
    trainer = AnswerTrainer(
        model=load_base(
            experiment,
            in_transformers(train.attn_implementation),
            moves=isinstance(method, Full) and not isinstance(strategy, DeepSpeed),
        ),
        args=arguments,
        train_dataset=load_from_disk(data.split("train")),
        eval_dataset=load_from_disk(data.split("validation")),
        processing_class=load_tokenizer(experiment.base_model, experiment.trust_remote_code),
        peft_config=None if isinstance(method, Full) else _peft_config(method),
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _peft_config(method: Lora) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=method.r,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=method.target_modules,
        use_rslora=method.use_rslora,
        use_dora=method.use_dora,
    )
