"""Random cells: a family, a dtype and every part and setting drawn, each answer judged by a cache-free float64 oracle.

The oracle is the unmodified model with the run's own weights in float64: a pass over a whole text, no cache, no batch.
Every token of every answer is judged, given the tokens before it: it is the oracle's choice, or its score is less by no
more than the dtype explains. That is twice the largest distance, over the answer's places and the ten likeliest tokens
of each, of the logits that the unmodified model gives in the run's dtype from those that it gives in float64; in
float64 it is 1e-9. Where top-k, top-p or min-p cut, or a penalty weighs, the oracle does the same with its own logits.
A token that ties with the last one that a cut keeps, within the bound, is kept, too.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from orthrus import Decoder, Drafter, KVCache, Result, Sampling, Stop
from orthrus.chance import Chance, request_key
from orthrus.testing import Letters, ending, processed
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.replay import Replay
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection
from support.building import BACKENDS
from support.families import CONTEXT, FAMILIES, NEEDS_EAGER, VOCABULARY, tiny_model

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"  # one letter for each token
ROUTED = {"gpt_oss", "mixtral", "qwen3_moe", "lfm2_moe"}  # in 16 bits other experts may be chosen: no bound holds
CONTENDERS = 10
EXACT = 1e-9
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
VERIFIERS = {"consensus": Consensus, "coupled": Coupled, "rejection": Rejection}


@dataclass(frozen=True)
class Cell:
    """One cell, as plain values."""

    seed: int
    family: str
    dtype: str
    cache: str
    attention: str
    drafter: str
    verifier: str
    chunk: int
    batch: int
    prompts: tuple[tuple[int, ...], ...]
    stop: Stop
    sampling: Sampling

    @classmethod
    def drawn(cls, seed: int) -> Cell:
        """Return the cell of a seed."""
        choose = random.Random(f"cell {seed}")
        family = choose.choice(sorted(FAMILIES))
        dtype = choose.choice(["float64", "float32", "bfloat16"][: 2 if family in ROUTED else 3])
        verifier = choose.choice(["consensus", "coupled", "coupled", "rejection"])
        sampling = _sampling(choose, draws=verifier != "consensus", cuts=dtype != "bfloat16")
        prompts = [
            tuple(choose.randrange(VOCABULARY) for _ in range(choose.choice([1, 2, 5, 9, 17, 40])))
            for _ in range(choose.randint(1, 6))
        ]
        if choose.random() < 0.3:
            prompts.append(prompts[0])
        return cls(
            seed=seed,
            family=family,
            dtype=dtype,
            cache=choose.choice(["dynamic", "static", "paged"]),
            attention="eager" if family in NEEDS_EAGER else choose.choice(sorted(BACKENDS)),
            drafter=choose.choice(["none", "prompt_lookup", "diffusion", "diffusion early", "replay"]),
            verifier=verifier,
            chunk=choose.choice([4, 16, 512]),
            batch=choose.randint(1, len(prompts)),
            prompts=tuple(prompts),
            stop=_stop(choose),
            sampling=sampling,
        )

    def __str__(self) -> str:
        return ", ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


@dataclass(frozen=True)
class Verdict:
    """What is said of a cell's answers. near: tokens that are not the oracle's choice, and within the bound."""

    answers: int
    tokens: int
    near: int
    mismatches: tuple[str, ...]


def judged(cell: Cell) -> Verdict:
    """Return what the oracle says of every answer of a cell."""
    results = decoded(cell)
    near, mismatches = 0, []
    for result in results:
        if not _ends_right(cell, result):
            mismatches.append(f"answer {result.id} ends by {result.finish_reason} after {len(result.token_ids)} tokens")
        close, wrong = _judge(cell, result)
        near += close
        mismatches += wrong
    return Verdict(len(results), sum(len(result.token_ids) for result in results), near, tuple(mismatches))


def decoded(cell: Cell) -> Sequence[Result]:
    """Return the answers of a cell; those of `replay` when it has seen the prompts before."""
    model = tiny_model(cell.family, dtype=DTYPES[cell.dtype])
    target = TransformersTarget(
        model, Letters(ALPHABET), _cache(cell), BACKENDS[cell.attention](), prefill_chunk=cell.chunk
    )
    verifier = VERIFIERS[cell.verifier]()
    decoder = Decoder.of(target, _drafter(cell, target), verifier, cell.stop, cell.seed, cell.sampling)
    prompts = [list(prompt) for prompt in cell.prompts]
    results = decoder.generate(prompts, batch=cell.batch)
    return decoder.generate(prompts, batch=cell.batch) if cell.drafter == "replay" else results


def _cache(cell: Cell) -> KVCache:
    makes: dict[str, Callable[[], KVCache]] = {
        "dynamic": DynamicCache,
        "static": lambda: StaticCache(slots=16),
        "paged": lambda: PagedCache(block=1 + cell.seed % 5, prefixes=8 * (cell.seed % 3)),
    }
    return makes[cell.cache]()


def _drafter(cell: Cell, target: Any) -> Drafter:
    if cell.drafter.startswith("diffusion"):
        target.attach_view("copy")
        return Diffusion(target, 2 + cell.seed % 5, 0, "copy", early=cell.drafter == "diffusion early")
    makes: dict[str, Callable[[], Drafter]] = {
        "none": NoDrafter,
        "prompt_lookup": lambda: PromptLookup(2 + cell.seed % 6, 1, 3),
        "replay": lambda: Replay(2 + cell.seed % 7, 0.7),
    }
    return makes[cell.drafter]()


def _judge(cell: Cell, result: Result) -> tuple[int, list[str]]:
    """Return how many tokens are near-ties, and what is wrong with the others."""
    if not result.token_ids:
        return 0, []
    prompt, output = list(result.prompt_token_ids), list(result.token_ids)
    exact = _logits(cell.family, cell.dtype, torch.float64, prompt, output)
    own = _logits(cell.family, cell.dtype, DTYPES[cell.dtype], prompt, output)
    likeliest = exact.topk(CONTENDERS, -1).indices
    error = float((exact - own).gather(-1, likeliest).abs().max())
    bound = max(EXACT, 2 * error) * _weight(cell.sampling)
    near, wrong = 0, []
    for index, token in enumerate(output):
        scores = _with_ties(cell, exact[index], prompt, output[: index + 1], bound)
        if cell.verifier == "rejection" and cell.sampling.temperature > 0:
            gap = 0.0 if float(scores[token]) > float("-inf") else float("inf")  # drawn anew: it must be possible
        else:
            scores = scores + _noise(cell, result, len(prompt) + index)
            gap = float(scores.max() - scores[token]) * (cell.sampling.temperature or 1.0)
        if gap > bound:
            wrong.append(f"answer {result.id}, token {index}: {token} is {gap:.3g} below, bound {bound:.3g}")
        near += 0 < gap <= bound
    return near, wrong


def _with_ties(cell: Cell, logits: Tensor, prompt: list[int], output: list[int], bound: float) -> Tensor:
    """Return the processed logits [V] before the last token, which counts as kept if it ties with the last one kept."""
    *before, token = output
    scores = processed(logits, prompt, before, cell.stop, cell.sampling)
    uncut = dataclasses.replace(cell.sampling, top_k=None, top_p=1.0, min_p=0.0)
    whole = processed(logits, prompt, before, cell.stop, uncut)
    if float(whole[token]) >= float(whole[scores > float("-inf")].min()) - bound:
        scores[token] = whole[token]
    return scores


def _noise(cell: Cell, result: Result, position: int) -> Tensor:
    if cell.sampling.temperature == 0:
        return torch.zeros(VOCABULARY)
    keys, places = torch.tensor([request_key(result.id)]), torch.tensor([[position]])
    return Chance(cell.seed).gumbel(keys, places, VOCABULARY)[0, 0].double()


def _weight(sampling: Sampling) -> float:
    """Return by how much settings may enlarge a difference of logits."""
    return max(1.0, sampling.repetition_penalty, 1 / sampling.repetition_penalty)


def _ends_right(cell: Cell, result: Result) -> bool:
    decode = Letters(ALPHABET).decode
    end = ending(result.prompt_token_ids, result.token_ids, cell.stop, max_length=CONTEXT, decode=decode)
    return end == (len(result.token_ids), result.finish_reason)


@functools.lru_cache(maxsize=8)
def _model(family: str, weights: str, dtype: torch.dtype) -> Any:
    """Return the unmodified model, its weights rounded as the run's are."""
    return tiny_model(family, dtype=DTYPES[weights]).to(dtype)


def _logits(family: str, weights: str, dtype: torch.dtype, prompt: list[int], output: list[int]) -> Tensor:
    """Return the logits before each token of the answer, [T, V], in float64."""
    with torch.no_grad():
        logits: Tensor = _model(family, weights, dtype)(torch.tensor([prompt + output[:-1]]), use_cache=False).logits
    return logits[0, len(prompt) - 1 :].double()


def _stop(choose: random.Random) -> Stop:
    most = choose.choice([1, 2, 5, 12, 20])
    tokens = [choose.randrange(VOCABULARY) for _ in range(choose.choice([0, 0, 1, 3, 6]))]
    strings = [
        "".join(choose.choice(ALPHABET) for _ in range(choose.choice([1, 2]))) for _ in range(choose.choice([0, 0, 2]))
    ]
    return Stop(most, choose.choice([0, 0, min(most, 3)]), frozenset(tokens), tuple(strings))


def _sampling(choose: random.Random, draws: bool, cuts: bool) -> Sampling:
    temperature = choose.choice([0.0, 0.5, 1.0, 1.5]) if draws else 0.0
    cut: dict[str, Any] = choose.choice([{}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1}]) if cuts else {}
    other: dict[str, Any] = choose.choice(
        [
            {},
            {},
            {"repetition_penalty": 1.3},
            {"presence_penalty": 0.7, "frequency_penalty": 0.2},
            {"logit_bias": {3: 1.5, 7: -2.0}},
            {"bad_words": ((5,), (9, 11))},
        ]
    )
    return Sampling(temperature, **cut, **other)
