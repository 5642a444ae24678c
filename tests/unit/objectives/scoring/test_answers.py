"""Scores in batches equal those of each row alone, and no more than a few logits are in memory at once."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.data.tokens.labels import RowLabels
from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.objectives.scoring import reading
from raytune_ft.objectives.scoring.answers import answer_logprobs, score_answers
from raytune_ft.objectives.scoring.scores import Scores

IGNORED = -100
LABELS = ((7,), (11,), (200, 31), (200, 32, 33))  # one is told from another by its second token
PAD = 0


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Any:
    """Float32, so that only the method and not rounding decides."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


class Rows(list[dict[str, list[int]]]):
    """A list of rows that also gives a column, as a data set does."""

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def rows(lengths: list[tuple[int, int]], *, loss_on_all: bool = False) -> Rows:
    """Rows of (prompt, answer) tokens; each answer begins with a label, as far as it is long enough."""
    draw = random.Random(0)
    made = Rows()
    for index, (prompt, answer) in enumerate(lengths):
        ids = [draw.randrange(3, 300) for _ in range(prompt + answer)]
        label = LABELS[index % 4][:answer]
        ids[prompt : prompt + len(label)] = label
        made.append({"input_ids": ids, "labels": ids if loss_on_all else [IGNORED] * prompt + ids[prompt:]})
    return made


def labels_of(data: Rows) -> list[RowLabels]:
    answers = [tuple(label for label in row["labels"] if label != IGNORED) for row in data]
    return [RowLabels(answer, LABELS, index % 4) for index, answer in enumerate(answers)]


def run(model: Any, data: Rows, batch_size: int, labels: list[RowLabels] | None = None) -> Scores:
    return score_answers(model, data, PAD, batch_size, labels=labels)


def logs(model: Any, ids: list[int]) -> Any:
    """Log-probabilities at each place, from a plain forward pass over one row."""
    import torch

    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)


def alone(model: Any, row: dict[str, list[int]]) -> tuple[float, int, int]:
    """Mean answer loss, answer tokens and choice of one row, each label read on its own."""
    counted = [place for place in range(1, len(row["labels"])) if row["labels"][place] != IGNORED]
    likely = logs(model, row["input_ids"])
    loss = -sum(float(likely[place - 1, row["labels"][place]]) for place in counted) / len(counted)
    prompt, sums = row["input_ids"][: counted[0]], []
    for label in LABELS:
        likely = logs(model, [*prompt, *label])
        sums.append(sum(float(likely[len(prompt) + at - 1, token]) for at, token in enumerate(label)))
    return loss, len(counted), max(range(len(LABELS)), key=sums.__getitem__)


LENGTHS = [(20, 2), (3, 1), (9, 5), (1, 3), (20, 2), (14, 9), (2, 2), (30, 3)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_a_batch_scores_each_row_as_if_it_were_alone(model: Any, batch_size: int) -> None:
    data = rows(LENGTHS)
    found = run(model, data, batch_size, labels_of(data))
    expected = [alone(model, row) for row in data]
    assert found.loss == pytest.approx([loss for loss, _, _ in expected], abs=1e-5)
    assert found.tokens.tolist() == [answer for _, answer in LENGTHS]
    assert found.choice is not None and found.choice.tolist() == [choice for _, _, choice in expected]
    assert found.expected is not None and found.expected.tolist() == [index % 4 for index in range(len(LENGTHS))]


def test_a_batch_that_asks_nothing_is_answered_with_nothing(model: Any) -> None:
    read = reading.Reader(model, PAD)
    assert read([reading.Reading([5, 6], []), reading.Reading([7], [])]) == [[], []] and read([]) == []
    assert [len(values) for values in read([reading.Reading([5, 6], []), reading.Reading([7, 8], [(1, 8)])])] == [0, 1]


def test_labels_are_compared_as_whole_strings(model: Any) -> None:
    """The label with the likeliest first token is not always the likeliest."""
    data = rows([(prompt, 3) for prompt in range(4, 60)])
    found = run(model, data, 8, labels_of(data))
    assert found.choice is not None
    assert found.choice.tolist() == [alone(model, row)[2] for row in data]
    firsts = [logs(model, row["input_ids"][:-3])[-1, [label[0] for label in LABELS[:3]]].argmax() for row in data]
    assert found.choice.tolist() != [int(first) for first in firsts]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_where_the_whole_row_has_loss_padding_is_no_context(model: Any, batch_size: int) -> None:
    data = rows(LENGTHS, loss_on_all=True)
    found = run(model, data, batch_size)
    assert found.loss == pytest.approx([alone(model, row)[0] for row in data], abs=1e-5)
    assert found.tokens.tolist() == [prompt + answer - 1 for prompt, answer in LENGTHS]
    assert found.choice is None and found.expected is None


def test_answers_apart_in_one_row_all_count(model: Any) -> None:
    (row,) = rows([(4, 12)])
    row["labels"] = [label if place in (4, 5, 10, 11) else IGNORED for place, label in enumerate(row["input_ids"])]
    (short,) = rows([(2, 1)])
    found = run(model, Rows([row, short]), 2)
    assert found.tokens.tolist() == [4, 1]
    assert found.loss == pytest.approx([alone(model, row)[0], alone(model, short)[0]], abs=1e-5)


@pytest.fixture
def head(model: Any) -> Any:
    """Positions whose logits were made at once, each time."""
    seen: list[int] = []
    hook = model.lm_head.register_forward_hook(lambda head, given, made: seen.append(made.numel() // made.shape[-1]))
    yield seen
    hook.remove()


def test_the_head_runs_over_few_positions_at_once(model: Any, head: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows([(1, 90)] * 4, loss_on_all=True)
    whole = run(model, data, 4)
    assert head == [4 * 90]
    head.clear()
    monkeypatch.setattr(reading, "LOGITS_AT_ONCE", 7 * model.config.vocab_size)
    assert run(model, data, 4).loss == pytest.approx(whole.loss, abs=1e-6)
    assert max(head) == 7 and sum(head) == 4 * 90


def test_the_head_runs_where_answers_are_and_nowhere_else(model: Any, head: list[int]) -> None:
    data = rows([(20, 2), (40, 3)])
    run(model, data, 2)
    assert head == [5]
    head.clear()
    # Four labels, of which two begin alike: each row is read once with its own answer, and once with 200, or 200 32.
    run(model, data, 100, labels_of(data))
    assert head == [2 + 2 + 3 + 2]


def test_logits_are_what_the_models_own_code_makes_of_them() -> None:
    """Gemma 2 caps them; PEFT's model holds the causal one."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=300, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.5, initializer_range=0.5,
    )  # fmt: skip
    tuned = get_peft_model(Gemma2ForCausalLM(config).eval(), LoraConfig(target_modules=["q_proj"]))
    torch.nn.init.normal_(tuned.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight)
    (row,) = rows([(5, 6)])
    likely = logs(tuned, row["input_ids"])
    wanted = [float(likely[place - 1, row["input_ids"][place]]) for place in range(5, 11)]
    assert answer_logprobs(tuned, [row], PAD)[0] == pytest.approx(wanted, abs=1e-5)
    with tuned.disable_adapter():
        assert answer_logprobs(tuned, [row], PAD)[0] != pytest.approx(wanted, abs=1e-3)


@pytest.fixture
def small_memory(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model's memory ends at so many tokens of a pass; gives the tokens of each pass, and sets the error."""
    body, seen = model.get_decoder(), []
    forward = type(body).forward

    def limited(limit: int, error: Exception) -> list[int]:
        def run_out(self: Any, input_ids: Any, **others: Any) -> Any:
            seen.append(input_ids.numel())
            if input_ids.numel() > limit:
                raise error
            return forward(self, input_ids=input_ids, **others)

        monkeypatch.setattr(type(body), "forward", run_out)
        return seen

    return limited


@pytest.mark.parametrize("kind", ["GPU", "CPU"])
def test_a_batch_that_does_not_fit_is_halved(model: Any, small_memory: Any, kind: str) -> None:
    import torch

    data = rows([(20, 4)] * 8 + [(60, 4)] * 8)
    expected = run(model, data, 8)
    error = torch.OutOfMemoryError("CUDA out of memory") if kind == "GPU" else RuntimeError(
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"
    )  # fmt: skip
    passes, lines = small_memory(200, error), []
    found = score_answers(model, data, PAD, 8, log=lines.append)
    assert found.loss == pytest.approx(expected.loss, abs=1e-6)
    # 8 rows of 24 tokens fit, of 64 no more than 3, which 2 are.
    assert sorted(tokens for tokens in passes if tokens <= 200) == [128] * 4 + [192]
    assert lines[0] == "memory ran out on 8 rows of up to 64 tokens; going on with half as many"
    assert len(passes) == 5 + len(lines) == 7


def test_a_row_that_does_not_fit_alone_is_said_in_one_line(model: Any, small_memory: Any) -> None:
    import torch

    small_memory(50, torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"))
    with pytest.raises(
        RaytuneError, match=r"^memory runs out on a single row of 64 tokens \(CUDA out of memory. Tried\)"
    ):
        run(model, rows([(60, 4)] * 2), 2)


def test_another_error_is_not_taken_for_memory(model: Any, small_memory: Any) -> None:
    small_memory(0, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(model, rows([(60, 4)]), 1)


def test_progress_is_told_up_to_the_last_row(model: Any) -> None:
    for labels in (None, labels_of(rows(LENGTHS))):
        seen: list[tuple[int, int]] = []
        score_answers(model, rows(LENGTHS), PAD, 3, lambda done, of, seen=seen: seen.append((done, of)), labels)
        assert {of for _, of in seen} == {8} and seen[-1] == (8, 8)
        assert sorted(done for done, _ in seen) == [done for done, _ in seen]


def test_dropout_is_off_while_scoring(model: Any) -> None:
    model.train()
    run(model, rows([(3, 1)]), 1)
    assert not model.training


def test_rows_of_another_encoding_are_refused(model: Any) -> None:
    data = rows([(5, 2)])
    with pytest.raises(IntegrityError, match="test row 1: its tokens are not those of its text; run the sweep again"):
        run(model, data, 1, [RowLabels((7, 8), LABELS, 0)])
