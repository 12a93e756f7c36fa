"""The profiler of a cycle: a round of its own, in which wrapped parts note when each begins and ends.

The loop is the same and knows nothing of it. The moments are read once the round is over.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orthrus.bench.measurement import Clock
from orthrus.bench.results import Phases
from orthrus.choices import speaks_for
from orthrus.decoder import Decoder
from orthrus.machine import synchronize
from orthrus.moments import Moments, Span, moments_of
from orthrus.one_pass import ScoresWithBlocks
from orthrus.optional import DraftsAhead, MeasuredTarget, Reports, name_of
from orthrus.score_ahead import ScoresAhead
from orthrus.values import Step


@dataclass(frozen=True)
class Profile:
    """The mean parts of a steady cycle, and the mean bytes that its pass must read (None: the target is silent).

    A cycle is steady if the step before it was a cycle too. engine: what the target says of its engine, and the
    drafter of what it chose, if they do.
    """

    phases: Phases
    pass_bytes: float | None
    engine: Mapping[str, Any] = field(default_factory=dict)


ASKED = (  # for by the loop, to tell what a part can do
    "blocks_beside",
    "capabilities",
    "device",
    "drafts_nothing",
    "drafts_trees",
    "embed",
    "free_rows",
    "group",
    "head",
    "hidden_size",
    "keep_path",
    "layer_count",
    "likeliest",
    "logits",
    "max_length",
    "move_rows",
    "moves_rows",
    "note_choices",
    "one_pass_obstacle",
    "prefill_chunks",
    "read_taps",
    "reads_trees",
    "refusal",
    "restored",
    "restores_prefixes",
    "score_with_blocks",
    "scores_ahead",
    "scores_choices",
    "start",
    "stop_token_ids",
    "take_predictions",
    "tap",
    "taps",
    "tokenizer",
    "tree_obstacle",
    "turn",
    "verifies_trees",
    "vocabulary_size",
)


class TimedPart:
    """A part of the decoder, wrapped: notes when some of its methods begin and end; all else is the part's own."""

    def __init__(self, part: Any, methods: Sequence[str], spans: list[Span], moments: Moments) -> None:
        self._part = part
        self.name = name_of(part)
        # As attributes of its own: from Python 3.12 on `isinstance` finds a protocol's members nowhere else.
        vars(self).update({name: getattr(part, name) for name in ASKED if hasattr(part, name)})
        vars(self).update({name: _noting(name, getattr(part, name), spans, moments) for name in methods})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


def _noting(name: str, method: Callable[..., Any], spans: list[Span], moments: Moments) -> Callable[..., Any]:
    def noted(*arguments: Any, **named: Any) -> Any:
        began = moments.now()
        value = method(*arguments, **named)
        spans.append(Span(name, began, moments.now()))
        return value

    return noted


def profile(decoder: Decoder, prompts: Sequence[Sequence[int]], batch: int, clock: Clock) -> Profile | None:
    """Return where the time of a steady cycle goes, decoding the prompts once; None if there was no such cycle."""
    device = decoder.target.device
    moments = moments_of(device, clock)
    spans: list[Span] = []
    watched = replace(
        decoder,
        target=TimedPart(decoder.target, ("prefill", *_scoring(decoder.target), "keep"), spans, moments),
        drafter=TimedPart(decoder.drafter, _drafting(decoder.drafter), spans, moments),
        verifier=TimedPart(decoder.verifier, _with(decoder.verifier, "verify"), spans, moments),
    )
    steps = list(watched.steps(prompts, batch)[1])
    synchronize(device)
    steady = [index for index in range(1, len(steps)) if not steps[index - 1].prefilled and not steps[index].prefilled]
    if not steady:
        return None
    parts = _parts(spans, moments)
    means = {name: statistics.fmean(parts[index][name] for index in steady) for name in parts[steady[0]]}
    reports = [part.report() for part in (decoder.target, decoder.drafter) if isinstance(part, Reports)]
    engine = {name: value for report in reports for name, value in report.items()}
    return Profile(Phases(**means), _pass_bytes(decoder.target, steps, steady), engine)


def _with(part: Any, method: str) -> tuple[str, ...]:
    """Return a method, and the one that may be called in its place (see `orthrus.choices`)."""
    other = f"{method}_choices"
    return (method, other) if speaks_for(part, method, other) else (method,)


def _scoring(target: Any) -> tuple[str, ...]:
    further = {"score_with_blocks": ScoresWithBlocks, "score_ahead": ScoresAhead}
    return (*_with(target, "score"), *(name for name, ability in further.items() if isinstance(target, ability)))


def _drafting(drafter: Any) -> tuple[str, ...]:
    return ("propose", "observe", *(["ahead"] if isinstance(drafter, DraftsAhead) else []))


def _parts(spans: Sequence[Span], moments: Moments) -> list[dict[str, float]]:
    """Return the parts of each step's time, from the end of the keep before it to the end of its own.

    What is launched ahead, while the host reads what was committed, is drafting or scoring.
    """
    steps: list[dict[str, float]] = []
    spent = {"draft": 0.0, "score": 0.0, "verify": 0.0}
    phase = {"prefill": "score", "score": "score", "verify": "verify"}
    phase |= {"score_ahead": "score", "score_with_blocks": "score"}
    phase |= {f"{method}_choices": method for method in ("score", "verify")}
    last_keep = verified = None
    ahead = 0.0
    for span in spans:
        if span.method != "keep":
            seconds = moments.seconds(span.began, span.ended)
            spent[phase.get(span.method, "draft")] += seconds
            verified = span.ended if phase.get(span.method) == "verify" else verified
            ahead = seconds if span.method in ("ahead", "score_ahead") else ahead
            continue
        commit, ahead = moments.seconds(verified, span.ended) - ahead, 0.0
        whole = 0.0 if last_keep is None else moments.seconds(last_keep, span.ended)
        steps.append({**spent, "commit": commit, "other": whole - commit - sum(spent.values())})
        spent, last_keep = dict.fromkeys(spent, 0.0), span.ended
    return steps


def _pass_bytes(target: Any, steps: Sequence[Step], steady: Sequence[int]) -> float | None:
    """Return the mean bytes of the passes; a row that had ended takes no part."""
    if not isinstance(target, MeasuredTarget):
        return None
    counted = []
    for index in steady:
        rows = zip(steps[index].lengths.tolist(), steps[index].committed, strict=True)
        live = [length - len(tokens) for length, tokens in rows if tokens]  # before the pass
        counted.append(target.pass_bytes(live))
    return statistics.fmean(counted)
