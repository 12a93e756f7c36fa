"""The self-check at load: a new target against the model's own forward, so that a model it does not fit is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from orthrus import BuildError, Context, Draft, OrthrusError, Scheduler, Stop, Target, Verdict
from orthrus.errors import reason
from orthrus.optional import HoldsCache
from orthrus.rounding import RoundsStates
from orthrus_transformers.model.pass_state import PassState

# Of the logits' spread: far above rounding, far below a bug. Models compute norms in float32 even in float64.
TOLERANCE = {torch.float64: 1e-2, torch.float32: 1e-2}
TOLERANCE_HALF = 0.5  # also of a cache that says that it rounds
PROMPT = 5
DRAFT = 3


@contextmanager
def refusing(model_type: str) -> Iterator[None]:
    """Turn what a family's own code raises while it is tried into one sentence, a BuildError."""
    try:
        yield
    except (OrthrusError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise BuildError(
            f"model type '{model_type}' does not run over Orthrus's cache and attention ({reason(error)}); it is not"
            " supported"
        ) from error


def probe(target: Target, state: PassState, model_type: str) -> list[int | None]:
    """Return the window of each layer; None: it sees all keys.

    Raises BuildError if two ragged rows through cache and backend do not give the model's own logits, or any. Few
    tokens, once at loading; it catches families whose positions or masks live where the backend is not asked.
    """
    tokens = [(7 * i + 3) % target.vocabulary_size for i in range(PROMPT + 1 + DRAFT)]
    rows = [tokens[:PROMPT], tokens[1 : PROMPT - 1]]
    context = Context(
        rows, Stop(max_new_tokens=DRAFT + 1), vocabulary_size=target.vocabulary_size, device=target.device
    )
    target.start(context)
    scheduler = Scheduler(context)
    with state.windows_seen() as windows:
        target.prefill(context, scheduler.refill())
    if not windows:
        raise BuildError(f"model type '{model_type}' does not let its attention be exchanged")
    anchors = torch.tensor([tokens[PROMPT], tokens[PROMPT - 1]], device=target.device)
    target.keep(scheduler.commit(context.empty_draft(), Verdict(torch.zeros_like(anchors), anchors)))
    drafted = torch.tensor([tokens[PROMPT + 1 :], tokens[PROMPT : PROMPT + DRAFT]], device=target.device)
    with state.windows_seen() as windows:
        scored = target.score(context, Draft(drafted, torch.full_like(anchors, DRAFT)))  # [2, DRAFT + 1, V]
    rounds = isinstance(target, HoldsCache) and isinstance(target.cache, RoundsStates)
    for row, logits in enumerate(scored):
        sequence = [*rows[row], int(anchors[row]), *drafted[row].tolist()]
        _compare(logits, target.logits(sequence, DRAFT + 1), model_type, rounds)
    return windows


def _compare(logits: Tensor, expected: Tensor, model_type: str, rounds: bool) -> None:
    check_overflow(expected, model_type)
    spread = float(expected.double().std())
    error = float((logits.double() - expected.double()).abs().max())
    if not error <= (TOLERANCE_HALF if rounds else TOLERANCE.get(expected.dtype, TOLERANCE_HALF)) * spread:
        raise BuildError(
            f"model type '{model_type}' does not give its own logits through this cache and attention"
            f" (off by {error:.3g} where logits spread by {spread:.3g}); either it is not supported, or one of the two,"
            " where a plugin has it, is not exact"
        )


def check_overflow(expected: Tensor, model_type: str) -> None:
    """Raise BuildError if the model's own logits are no numbers; -inf stands for a token that never comes."""
    if not bool((expected.isnan() | expected.isposinf() | expected.isneginf().all(-1, keepdim=True)).any()):
        return
    dtype = str(expected.dtype).removeprefix("torch.")
    if expected.dtype == torch.float16:
        raise BuildError(
            f"model type '{model_type}' overflows in float16: its own logits are not finite; set target.dtype=bfloat16,"
            " which has the range of float32"
        )
    raise BuildError(f"model type '{model_type}' gives logits in {dtype} that are not finite: its weights are damaged")
