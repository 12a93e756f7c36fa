"""Random cells: a family, a dtype and every part and setting of a decoding drawn, each answer judged by an oracle."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields

from orthrus import Decoder, Drafter, Sampling, Stop, Verifier
from orthrus.chance import request_key
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection
from support.building import BACKENDS
from support.families import FAMILIES, NEEDS_EAGER, RECURRENT
from support.random_choices import random_choices
from support.random_drafting import DRAFTERS, LEARNING, drafters_for
from support.random_judge import DTYPES, Judge
from support.random_requests import drawn_requests, slots_of
from support.random_targets import FUSED, caches_for, engines_for, target_of
from support.random_views import Ground
from support.sessions import Answered, Asked
from support.sessions import decoded as session_decoded

ROUTED = {"gpt_oss", "mixtral", "qwen3_moe", "lfm2_moe"}  # in 16 bits other experts may be chosen: no bound holds
VERIFIERS: dict[str, type[Verifier]] = {"consensus": Consensus, "coupled": Coupled, "rejection": Rejection}


@dataclass(frozen=True)
class Cell:
    """One cell, as plain values; options of its parts are drawn with its seed."""

    seed: int
    family: str
    dtype: str
    engine: str
    cache: str
    attention: str
    drafter: str
    verifier: str
    chunk: int
    batch: int
    session: bool  # in which requests come and go; else all are there from the first
    requests: tuple[Asked, ...]

    @classmethod
    def drawn(cls, seed: int) -> Cell:
        """Return the cell of a seed."""
        choose = random.Random(f"cell {seed}")
        family = choose.choice(choose.choice([sorted(FUSED), sorted(FAMILIES), sorted(FAMILIES), sorted(RECURRENT)]))
        wide = family in ROUTED or family in RECURRENT
        dtype = choose.choice(["float64", "float32", "bfloat16"][: 2 if wide else 3])
        engine = choose.choice(engines_for(family, dtype))
        cache = choose.choice(caches_for(family, engine))
        verifier, session = choose.choice(["consensus", "coupled", "coupled", "rejection"]), choose.random() < 0.5
        requests = drawn_requests(choose, verifier, dtype, session)
        return cls(
            seed=seed,
            family=family,
            dtype=dtype,
            engine=engine,
            cache=cache,
            attention="eager" if family in NEEDS_EAGER else choose.choice(sorted(BACKENDS)),
            drafter=choose.choice(drafters_for(family, cache)),
            verifier=verifier,
            chunk=choose.choice([1, 4, 16, 512]),
            batch=min(choose.choice([1, 2, 3, 8]), len(requests)),
            session=session,
            requests=requests,
        )

    def __str__(self) -> str:
        return ", ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


@dataclass(frozen=True)
class Verdict:
    """What is said of a cell's answers. near: tokens that are not the oracle's choice, and within the bound."""

    tokens: int
    near: int
    accepted: int
    mismatches: tuple[str, ...]


def judged(cell: Cell) -> Verdict:
    """Return what the oracle says of every answer of a cell."""
    return verdict(cell, decoded(cell))


def verdict(cell: Cell, answers: Sequence[Answered]) -> Verdict:
    """Return what the oracle says of these answers of a cell."""
    fused, possible = cell.engine not in ("eager", "recorded"), cell.verifier == "rejection"
    judge = Judge(cell.family, cell.dtype, fused, possible, cell.seed)
    tokens, near, accepted, mismatches = 0, 0, 0, []
    for asked, answer in zip(cell.requests, answers, strict=True):
        close, wrong = judge.faults(asked, answer)
        mismatches += [f"answer {asked.id}, {fault}" for fault in wrong]
        tokens, near = tokens + len(answer.tokens), near + close
        accepted += sum(answer.result.measures.accepted_per_cycle) if answer.result else 0
    return Verdict(tokens, near, accepted, tuple(mismatches))


def decoded(cell: Cell) -> list[Answered]:
    """Return the answers of a cell, of drafters that learn those of a second time."""
    choose = random.Random(f"parts {cell.seed}")
    slots = slots_of(cell.requests)
    target = target_of(
        cell.family, DTYPES[cell.dtype], cell.engine, cell.cache, cell.attention, cell.chunk, slots, choose
    )
    with random_choices(random.Random(cell.seed)):
        before = _answers(cell, target, NoDrafter(), choose) if cell.drafter.startswith("scripted") else []
        texts = {
            request_key(asked.id): tuple(answer.tokens) for asked, answer in zip(cell.requests, before, strict=False)
        }
        drafter = DRAFTERS[cell.drafter](Ground(target, cell.family, texts, choose))
        if cell.drafter.startswith(LEARNING):
            _answers(cell, target, drafter, choose)
        return _answers(cell, target, drafter, choose)


def _answers(cell: Cell, target: TransformersTarget, drafter: Drafter, choose: random.Random) -> list[Answered]:
    stop, sampling = (Stop(3), Sampling()) if cell.session else (cell.requests[0].stop, cell.requests[0].sampling)
    decoder = Decoder.of(target, drafter, VERIFIERS[cell.verifier](), stop, cell.seed, sampling)
    if cell.session:
        session = decoder.session(cell.batch, interleaves=choose.random() < 0.5)
        answers = session_decoded(session, cell.requests, choose)
        return [answers[asked.id] for asked in cell.requests]
    prompts, ids = [asked.prompt for asked in cell.requests], [asked.id for asked in cell.requests]
    results = decoder.generate(prompts, batch=cell.batch, ids=ids)
    return [Answered(list(result.token_ids), result.text, [*(result.scores or ())], result) for result in results]
