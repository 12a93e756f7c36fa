"""The self-check at load: a new target against the model's own forward, so that a model it does not fit is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from orthrus import BuildError, Context, Draft, OrthrusError, Scheduler, Stop, Target, Verdict
from orthrus.errors import reason
from orthrus.optional import HasDtype, HoldsCache
from orthrus.rounding import RoundsStates
from orthrus_transformers.model.attention_hook import attends
from orthrus_transformers.model.kept_check import KeptChecks, PassedCheck
from orthrus_transformers.model.mask_windows import windows_in_masks
from orthrus_transformers.model.own_model import OwnModel
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.recurrent_layers import find_recurrent

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


def checked_windows(target: Target, own: OwnModel, state: PassState, kept: KeptChecks) -> Sequence[int | None]:
    """Return the window of each layer that attends, from a check of now or a kept one; raise BuildError if it fails."""
    check = kept.passed()
    if check is not None:
        state.masked_windows = check.masked_windows
        return check.windows
    model = own.model
    with refusing(model.config.model_type):
        state.masked_windows = windows_in_masks(model)
        layers = Layers(attends(model), bool(find_recurrent(model)))
        windows = probe(target, state, model.config.model_type, layers)
    kept.keep(PassedCheck(windows, state.masked_windows))
    return windows


@dataclass(frozen=True)
class Layers:
    """What a model's layers are, as far as the self-check must know."""

    attend: bool  # whether any may
    recur: bool  # whether any leaves a state that is not cropped


def probe(target: Target, state: PassState, model_type: str, layers: Layers) -> list[int | None]:
    """Return the window of each layer that attends; None: it sees all keys.

    Raises BuildError if two ragged rows through cache and backend do not give the model's own logits, or any. Few
    tokens, once at loading; it catches families whose positions or masks live where the backend is not asked.
    """
    tokens = [(7 * i + 3) % target.vocabulary_size for i in range(PROMPT + 1 + DRAFT)]
    rows = [tokens[:PROMPT], tokens[1 : PROMPT - 1]]
    stop = Stop(max_new_tokens=2 * DRAFT + 3 if layers.recur else DRAFT + 1)
    context = Context(rows, stop, vocabulary_size=target.vocabulary_size, device=target.device)
    target.start(context)
    scheduler = Scheduler(context)
    with state.windows_seen() as windows:
        target.prefill(context, scheduler.refill())
    if not windows and layers.attend:
        raise BuildError(f"model type '{model_type}' does not let its attention be exchanged")
    anchors = torch.tensor([tokens[PROMPT], tokens[PROMPT - 1]], device=target.device)
    target.keep(scheduler.commit(context.empty_draft(), Verdict(torch.zeros_like(anchors), anchors)))
    drafted = torch.tensor([tokens[PROMPT + 1 :], tokens[PROMPT : PROMPT + DRAFT]], device=target.device)
    with state.windows_seen() as windows:
        draft = Draft(drafted, torch.full_like(anchors, DRAFT))
        scored = target.score(context, draft)  # [2, DRAFT + 1, V]
    texts = [[*row, int(anchor)] for row, anchor in zip(rows, anchors, strict=True)]
    _compare_rows(target, texts, drafted, scored, model_type)
    if layers.recur:
        _probe_rollback(target, context, scheduler, draft, model_type)
    return windows


def _probe_rollback(target: Target, context: Context, scheduler: Scheduler, draft: Draft, model_type: str) -> None:
    """Take parts of drafts back, unlike ones of two rows, and compare what is scored then: one token, then several."""
    for accepted, width in ((2, 0), 0), ((0, 0), DRAFT):
        verdict = Verdict(torch.tensor(accepted, device=target.device), context.tokens[:, 0].clone())
        target.keep(scheduler.commit(draft, verdict))
        draft = Draft(context.tokens[:, :width].clone(), torch.full_like(context.lengths, width))
        texts = [[*row.prompt, *row.output] for row in context.rows]
        _compare_rows(target, texts, draft.tokens, target.score(context, draft), model_type)


def _compare_rows(
    target: Target, texts: Sequence[Sequence[int]], drafted: Tensor, scored: Tensor, model_type: str
) -> None:
    """Compare what was scored [B, n + 1, V] of tokens [B, n] behind the texts with the model's own logits."""
    rounds = isinstance(target, HoldsCache) and isinstance(target.cache, RoundsStates)
    dtype = target.dtype if isinstance(target, HasDtype) else scored.dtype  # models of 16 bits may give wider logits
    for text, tokens, logits in zip(texts, drafted.tolist(), scored, strict=True):
        _compare(logits, target.logits([*text, *tokens], len(tokens) + 1), model_type, dtype, rounds)


def _compare(logits: Tensor, expected: Tensor, model_type: str, dtype: torch.dtype, rounds: bool) -> None:
    check_overflow(expected, model_type, dtype)
    spread = float(expected.double().std())
    error = float((logits.double() - expected.double()).abs().max())
    if not error <= (TOLERANCE_HALF if rounds else TOLERANCE.get(dtype, TOLERANCE_HALF)) * spread:
        raise BuildError(
            f"model type '{model_type}' does not give its own logits through this cache and attention"
            f" (off by {error:.3g} where logits spread by {spread:.3g}); either it is not supported, or one of the two,"
            " where a plugin has it, is not exact"
        )


def check_overflow(expected: Tensor, model_type: str, dtype: torch.dtype) -> None:
    """Raise BuildError if the logits of a model of a dtype are no numbers; -inf stands for a token that never comes."""
    if not bool((expected.isnan() | expected.isposinf() | expected.isneginf().all(-1, keepdim=True)).any()):
        return
    if dtype == torch.float16:
        raise BuildError(
            f"model type '{model_type}' overflows in float16: its own logits are not finite; set target.dtype=bfloat16,"
            " which has the range of float32"
        )
    name = str(dtype).removeprefix("torch.")
    raise BuildError(f"model type '{model_type}' gives logits in {name} that are not finite: its weights are damaged")
