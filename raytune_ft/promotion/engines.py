"""Runs the gates that need an engine, `no_worse` and `parity`; transformers ends before vLLM starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytune_ft.config.number_type import NumberType
from raytune_ft.config.promotion import ParityGate
from raytune_ft.methods.weights.base_weights import base_id
from raytune_ft.promotion import child
from raytune_ft.promotion.candidate import Candidate
from raytune_ft.promotion.gates import Gates
from raytune_ft.promotion.no_worse import Champion, champion_of, judge_no_worse, judge_unscored
from raytune_ft.promotion.parity import GREEDY_TOKENS, Answer, ask_vllm, judge_parity
from raytune_ft.registry.compared import Compared
from raytune_ft.registry.staging import StagedAdapter
from raytune_ft.registry.store import Registry

if TYPE_CHECKING:
    from raytune_ft.objectives.scoring.scores import Scores
    from raytune_ft.serving.local.session import Endpoint

_REFERENCE = "raytune_ft.promotion.reference"
_REFERENCE_TIMEOUT_S = 6 * 3600.0  # scoring a champion on a large test split takes long


@dataclass(frozen=True)
class Engines:
    """The inputs of both gates.

    Attributes:
        candidate: The run's winner.
        copy: The staged copy of it that the registry would serve.
        base_sha256: Hash of the base's weights.
        metric: The metric by which winner and champion are compared.
        say: Receives progress lines for the user.
        endpoint: A running endpoint, which is asked in place of a new engine if it serves the same base and settings.
    """

    candidate: Candidate
    copy: StagedAdapter
    base_sha256: str
    metric: str
    say: Callable[[str], None]
    endpoint: Callable[[], Endpoint] | None = None

    def judge(self, registry: Registry, gates: Gates) -> Compared | None:
        """Runs both gates and returns the champion that was compared with; None if `no_worse` is left out.

        Raises:
            GateRefusedError: A gate refused.
            RaytuneError: An engine failed.
        """
        parity, compared = gates.wanted("parity"), None
        if gates.wanted("no_worse"):
            compared = self._against(champion_of(registry, self.candidate.adapter), gates, parity=parity)
        else:
            gates.leave_out("no_worse")
            if parity:
                self._ask(None, gates, parity=True)
        if not parity:
            gates.leave_out("parity")
        return compared

    def judge_again(self, registry: Registry, gates: Gates) -> Compared:
        """Runs `no_worse` again with the present champion; raises as `judge`."""
        champion = champion_of(registry, self.candidate.adapter)
        self.say(f"the champion is {champion.reference if champion else 'gone'} now; comparing with it")
        return self._against(champion, gates, parity=False)

    def _against(self, champion: Champion | None, gates: Gates, *, parity: bool) -> Compared:
        compared = Compared(champion.manifest.version if champion else None)
        settings = self.candidate.experiment.promotion
        verdict = judge_unscored(
            champion, self.candidate.source, self.candidate.adapter_sha256, self.base_sha256, self.candidate.test_rows,
            settings.min_rows,
        )  # fmt: skip
        if verdict is not None:
            gates.take(verdict)
            champion = None
        if champion is not None or parity:
            self._ask(champion, gates, parity=parity)
        return compared

    def _ask(self, champion: Champion | None, gates: Gates, *, parity: bool) -> None:
        """Runs transformers, judges the comparison with the champion, then runs vLLM for the parity."""
        settings = self.candidate.experiment.promotion
        gate = settings.parity if parity else None
        spec = {
            "run": str(self.candidate.run.root),
            "winner": str(self.candidate.source),
            "champion": str(champion.path) if champion else None,
            "rows": gate.rows if gate else 0,
            "greedy": GREEDY_TOKENS,
            "evaluate": self.candidate.experiment.evaluate.model_dump(mode="json"),
            "scored_in": self.candidate.evaluation.get("dtype"),
        }
        ours = self._own_scores() if champion else None  # read first, so that an error comes before an engine starts
        asked = f"asking {gate.rows} held-out rows of transformers, with the run's winner" if gate else None
        self.say(asked or "starting transformers")
        found = child.run_child(_REFERENCE, spec, _REFERENCE_TIMEOUT_S, self.say, "transformers")
        if champion is not None and ours is not None:
            self._judge_champion(champion, found["champion"], ours, gates)
        if gate is not None:
            served = self._asked_of_vllm(gate, found)
            gates.take(judge_parity([Answer(**each) for each in found["answers"]], served, gate, found["dtype"]))

    def _asked_of_vllm(self, gate: ParityGate, found: Mapping[str, Any]) -> list[Answer]:
        """Returns the answers of the running endpoint if it serves what is needed, else those of a new engine."""
        copy = "merged model" if self.copy.merged else "registry's copy"
        where, base_model = str(self.copy.path), self.candidate.experiment.base_model
        if self.endpoint is not None and not self.copy.merged:
            endpoint = self.endpoint()
            longest = max(int(row["length"]) for row in found["rows"]) + GREEDY_TOKENS + 1
            if serves(endpoint, base_model, found["dtype"], self.copy.facts.lora_rank, longest):
                self.say(f"asking the same of the endpoint's vLLM, with the {copy}")
                answers = endpoint.answer_rows(self.copy.path, found["rows"], GREEDY_TOKENS, gate.timeout_s)
                return [Answer(**each) for each in answers]
        self.say(f"asking the same of vLLM, with the {copy}")
        return ask_vllm(
            gate, found["rows"], self.say, adapter=None if self.copy.merged else where,
            lora_rank=self.copy.facts.lora_rank, base_model=where if self.copy.merged else base_model,
            base_sha256=self.base_sha256, dtype=found["dtype"],
            trust_remote_code=self.candidate.experiment.trust_remote_code,
        )  # fmt: skip

    def _own_scores(self) -> Scores:
        from raytune_ft.evaluation.recorded import read_scores

        return read_scores(self.candidate.run.scores, self.candidate.adapter_sha256)

    def _judge_champion(self, champion: Champion, theirs: dict[str, Any], ours: Scores, gates: Gates) -> None:
        from raytune_ft.evaluation.recorded import scores_from_json

        fingerprint = str(self.candidate.winner["data_fingerprint"])
        gates.take(
            judge_no_worse(
                champion, scores_from_json(theirs), ours, self.metric, self.candidate.experiment, fingerprint
            )
        )


def serves(endpoint: Endpoint, base_model: str, dtype: NumberType, lora_rank: int, tokens: int) -> bool:
    """Tells whether the endpoint has this base and number type, and takes this rank and rows of so many tokens."""
    args = endpoint.args
    same = args is not None and (base_id(args.base_model), args.dtype) == (base_id(base_model), dtype)
    fits = args is not None and tokens <= args.max_model_len
    return same and fits and lora_rank <= endpoint.max_lora_rank
