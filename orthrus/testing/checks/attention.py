"""Checks of attention backends against attention written out. A factory is called without arguments: `MyBackend`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orthrus.interfaces import AttentionBackend
from orthrus.testing.check import BrokenRuleError, Check, Factory, NotApplicableError, check, expecting
from orthrus.testing.checks.attention_added import ATTENTION_ADDED
from orthrus.testing.checks.attention_beside import ATTENTION_BESIDE
from orthrus.testing.checks.attention_cases import AttentionCase, attend, with_garbage
from orthrus.testing.checks.attention_passes import fitting, hold_left_alone, hold_output
from orthrus.testing.checks.attention_sizes import ATTENTION_SIZES
from orthrus.testing.checks.contracts import hold_declared, hold_members

SCORES = [
    AttentionCase(),
    AttentionCase(lengths=(0,), width=3),
    AttentionCase(lengths=(2, 7), width=4, seed=1),
    AttentionCase(lengths=(0, 5, 12), width=5, heads=2, seed=2),
]
BLOCKS = [replace(case, kind="block", width=max(2, case.width), seed=case.seed + 3) for case in SCORES]
TREES = [
    AttentionCase("tree", (3,), 4),
    AttentionCase("tree", (0, 7), 6, seed=1, heads=2, groups=2),
    AttentionCase("tree", (2, 7), 9, window=3, seed=2),
    AttentionCase("tree", (0, 5, 30), 24, window=8, groups=3, seed=3),
    AttentionCase("tree", (300, 4), 33, layout="static", seed=4),
]
BESIDE_DRAFTS = [
    AttentionCase("blocks", (3,), 2),
    AttentionCase("blocks", (0, 7), 4, seed=1, heads=2, groups=2),
    AttentionCase("blocks", (2, 7), 5, window=3, seed=2),
    AttentionCase("blocks", (300, 4), 7, groups=3, layout="static", seed=4),
]
PREFILLS = [
    AttentionCase("prefill", (4,), 4),
    AttentionCase("prefill", (2, 7), 7, seed=1),
    AttentionCase("prefill", (9, 1, 4), 9, heads=2, seed=2),
]
DTYPES = ("float64", "bfloat16", "float16")


@check("attention", SCORES[:1])
def declares_itself(make: Factory, attention_case: AttentionCase) -> None:
    """It has the members of an AttentionBackend, and declares where it works as AttentionCapabilities."""
    backend = make()
    hold_members("attention", backend)
    hold_declared("attention", backend)


@check("attention", SCORES)
def causal_queries_see_their_past(make: Factory, attention_case: AttentionCase) -> None:
    """Scoring a draft, each query sees the keys up to its own position, in rows of any length."""
    hold_output(make, attention_case)


@check("attention", PREFILLS)
def prefills_see_their_past(make: Factory, attention_case: AttentionCase) -> None:
    """In a prefill, whose columns are rolled, each query sees the keys up to its own position."""
    hold_output(make, attention_case)


@check("attention", BLOCKS)
def blocks_see_themselves(make: Factory, attention_case: AttentionCase) -> None:
    """Every query of a block sees what is committed and the whole block, both ways; unused columns come first."""
    hold_output(make, attention_case)


@check("attention", TREES)
def tokens_of_a_tree_see_their_paths(make: Factory, attention_case: AttentionCase) -> None:
    """Each token of a tree sees what is committed and its own path, no sibling, through windows by depth."""
    hold_output(make, attention_case)


@check("attention", BESIDE_DRAFTS)
def blocks_see_what_is_accepted_before_them(make: Factory, attention_case: AttentionCase) -> None:
    """Beside a scored draft each block sees what is committed, the draft before its first token, and itself alone."""
    hold_output(make, attention_case)


@check("attention", [replace(case, window=window) for window in (1, 4) for case in (*SCORES, *PREFILLS, *BLOCKS)])
def windows_hide_older_keys(make: Factory, attention_case: AttentionCase) -> None:
    """A layer's window hides keys that many slots or more before the query."""
    hold_output(make, attention_case)


@check("attention", [replace(case, groups=groups) for groups in (2, 3) for case in (*SCORES, *PREFILLS, *BLOCKS)])
def heads_share_keys_in_groups(make: Factory, attention_case: AttentionCase) -> None:
    """Query heads that share a key head each get their own output, in their order."""
    hold_output(make, attention_case)


@check("attention", [replace(case, layout=layout) for layout in ("static", "transposed") for case in SCORES])
def keys_are_read_as_they_lie(make: Factory, attention_case: AttentionCase) -> None:
    """Keys and values are read in whatever layout a cache has; what lies beside them in a buffer does not count."""
    hold_output(make, attention_case)


@check("attention", [*SCORES, *BLOCKS, *TREES[:2], *BESIDE_DRAFTS[:2]])
def scratch_slots_are_not_seen(make: Factory, attention_case: AttentionCase) -> None:
    """What stands in slots after a row's last position changes nothing, to the bit."""
    backend, attention_case = fitting(make, attention_case)
    tensors = attention_case.tensors()
    clean, spoilt = attend(backend, tensors), attend(backend, with_garbage(tensors))
    changed = (clean != spoilt).masked_fill(~tensors.read[:, None, :, None], False)
    if changed.any():
        row, head, column, _ = changed.nonzero()[0].tolist()
        raise BrokenRuleError(
            "its output changed with the slots that it may not see", f"row {row}, head {head}, query {column}"
        )


@check(
    "attention", [replace(tensors, dtype=name) for name in DTYPES for tensors in (SCORES[2], BLOCKS[2], PREFILLS[1])]
)
def every_dtype_is_close(make: Factory, attention_case: AttentionCase) -> None:
    """In every dtype that it declares the output is that of float64, within what the dtype can hold."""
    backend: AttentionBackend = make()
    offered = backend.capabilities.dtypes
    if offered and attention_case.dtype not in offered:
        return
    hold_output(make, attention_case)


@check("attention", [replace(case, softcap=0.7) for case in SCORES])
def scores_are_soft_capped(make: Factory, attention_case: AttentionCase) -> None:
    """With `softcap` scores s become softcap * tanh(s / softcap)."""
    if not make().capabilities.softcap:
        raise NotApplicableError("the backend declares no soft-capping")
    hold_output(make, attention_case)


@check("attention", [replace(case, sinks=True, groups=2) for case in SCORES])
def sinks_take_their_share(make: Factory, attention_case: AttentionCase) -> None:
    """With `sinks` each head has one more key, of that score and without a value."""
    if not make().capabilities.sinks:
        raise NotApplicableError("the backend declares no sinks")
    hold_output(make, attention_case)


@check("attention", SCORES)
def inputs_are_left_alone(make: Factory, attention_case: AttentionCase) -> None:
    """A backend changes neither queries, keys, values nor the mask."""
    backend, attention_case = fitting(make, attention_case)
    tensors, before = attention_case.tensors(), attention_case.tensors()
    attend(backend, tensors)
    hold_left_alone(tensors, before, "prepare or attend")


ATTENTION_CHECKS = (
    declares_itself,
    causal_queries_see_their_past,
    prefills_see_their_past,
    blocks_see_themselves,
    tokens_of_a_tree_see_their_paths,
    blocks_see_what_is_accepted_before_them,
    windows_hide_older_keys,
    heads_share_keys_in_groups,
    keys_are_read_as_they_lie,
    scratch_slots_are_not_seen,
    every_dtype_is_close,
    scores_are_soft_capped,
    sinks_take_their_share,
    inputs_are_left_alone,
    *ATTENTION_SIZES,
    *ATTENTION_BESIDE,
    *ATTENTION_ADDED,
)


def attention_checks(expect: Mapping[str, str] | None = None) -> list[Check]:
    """Return the checks of attention backends, each to be called with a factory `() -> backend`.

    expect: for checks that are known to fail, by name, the reason; one that passes all the same is a failure. Raises
    InputError for a name that is none.
    """
    return expecting(ATTENTION_CHECKS, expect)
