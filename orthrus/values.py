"""Frozen values that cross interfaces. B: rows, n: width of the draft, V: size of the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from orthrus.errors import BuildError

if TYPE_CHECKING:
    from torch import Tensor

    from orthrus.metrics import Measures
    from orthrus.paths import Paths

FinishReason = Literal["stop_token", "stop_string", "length", "cancelled", "failed"]
TapPoint = int | Literal["final"]  # boundary k: what enters layer k; "final": what the last norm gives
Message = dict[str, str]
Prompt = str | Sequence[int] | Sequence[Message]


@dataclass(frozen=True, eq=False)
class Draft:
    """A drafter's proposal of tokens to follow each row's anchor.

    tokens [B, n] int64; what lies at or beyond a row's length is ignored. lengths [B] int64, each <= the row's room.
    probabilities [B, n, V]: what each token was drawn from, given those before it on its path and its parent's earlier
    children; None says that it was chosen, not drawn.
    parents [B, n] int64: the index of each token's parent in the draft, which comes before it, or -1 for the anchor.
    None is a chain. Of a tree, lengths count all tokens, those of the branches, too.
    passes: forward passes of a target-sized model that proposing cost (for `tpf`); a smaller one's is a fraction.
    host_lengths: the lengths as numbers, of a draft that was made on the host: who reads them saves a sync. None if
    the drafter does not know them. drafter: the name of who drafted it, if it is not the drafter that proposes it.
    depth: of a tree, the most tokens of any path: as many may be accepted, and what is launched ahead of the next cycle
    has to make room for them. None: as many as there are tokens.
    """

    tokens: Tensor
    lengths: Tensor
    probabilities: Tensor | None = None
    parents: Tensor | None = None
    passes: float = 0
    host_lengths: tuple[int, ...] | None = None
    drafter: str | None = None
    depth: int | None = None

    @cached_property
    def paths(self) -> Paths | None:
        """The paths of a tree whose parents are within their bounds, as a scheduler makes them; None of a chain."""
        if self.parents is None:
            return None
        from orthrus.paths import Paths

        return Paths(self.parents)


@dataclass(frozen=True, eq=False)
class Verdict:
    """A verifier's verdict: accepted [B] leading draft tokens are kept, then next_tokens [B], the target's own.

    last [B]: of a tree, the last token that is kept, by its index, -1 for none. Kept is then the path that leads to it,
    of accepted [B] tokens. None: the draft was a chain.
    """

    accepted: Tensor
    next_tokens: Tensor
    last: Tensor | None = None


@dataclass(frozen=True)
class TokenScores:
    """The target's own natural log-probabilities at a committed token's place, before sampling settings.

    chosen: the token's. likeliest: pairs of a token and its log-probability, the likeliest first.
    """

    chosen: float
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, eq=False)
class TappedStates:
    """The target's hidden states after committed tokens, at the points that a drafter declared.

    states [R, n, T h]: of the tokens at positions starts [R] and those that follow, the T points side by side; of each
    row the first counts [R] of the n columns are committed text, and the others are to be left out. rows [R]: which
    rows; None: all, in a cycle. The token that follows each of these positions is in `context.tokens`. The next pass
    may write over the states.
    """

    states: Tensor
    starts: Tensor
    counts: Tensor
    rows: Tensor | None = None


@dataclass(frozen=True)
class Trial:
    """A change of a drafter's options that could raise what is accepted of its drafts; see `OffersTrials`.

    name: the change in a few words. sentence: what is wrong with the drafter as it is, if the change helps. options:
    what is laid over the drafter's options in the config, written as a config writes them.
    """

    name: str
    sentence: str
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class LikeliestTokens:
    """The k likeliest tokens after the anchor and after each draft token, and their logits: [B, n + 1, k] each."""

    tokens: Tensor
    logits: Tensor


@dataclass(frozen=True)
class DraftShape:
    """How much is drafted. drafts: places after the anchor; nodes: tokens of a tree over them, 0: they are a chain."""

    drafts: int
    nodes: int = 0


@dataclass(frozen=True)
class DraftedTree:
    """A row's tree of drafts, read by the host. parents: of its tokens, as `Draft.parents`; -1 is the anchor.

    kept: the tokens on the accepted path, by their index, from the anchor on.
    """

    parents: tuple[int, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """The tokens that one cycle, or the prefill of some rows, committed.

    cycle: how many cycles there were, this one included. prefilled: the rows that a prefill filled; empty for a cycle.
    lengths [B]: committed tokens of each row, the anchor included (on the device).
    The tuples have one entry a row, on the host: the tokens committed (empty for a row that had ended before), the
    number of drafts accepted (counted before a stop cuts them), and why the row ended in this step, or None.
    passes: forward passes of the target's size that the step took.
    scores: of the tokens committed, for rows that want them; None if no row does.
    likeliest: of every scored place, for a drafter that asks for them.
    drafted: the number of drafts that were proposed for each row, for a session that counts them.
    drafts: the drafts themselves, of rows that show them, of a tree those of all branches; None if no row does.
    drafter: as of the draft.
    trees: of a tree, each row's own, for a drafter that reads them and with drafts that are shown; None otherwise.
    own: whether what was accepted is of the observing drafter's draft, if it made one; False: another's was scored.
    """

    cycle: int
    prefilled: tuple[int, ...]
    lengths: Tensor
    committed: tuple[tuple[int, ...], ...]
    accepted: tuple[int, ...]
    finished: tuple[FinishReason | None, ...]
    passes: float
    scores: tuple[tuple[TokenScores, ...], ...] | None = None
    likeliest: LikeliestTokens | None = None
    drafted: tuple[int, ...] | None = None
    drafts: tuple[tuple[int, ...], ...] | None = None
    drafter: str | None = None
    trees: tuple[DraftedTree, ...] | None = None
    own: bool = True

    def without_acceptance(self) -> Step:
        """Return the step as it is to a drafter whose draft it was not: nothing of its own was accepted.

        Written out because it is called in every cycle, where `dataclasses.replace` takes ten times as long.
        """
        nothing = (0,) * len(self.accepted)
        return Step(
            self.cycle,
            self.prefilled,
            self.lengths,
            self.committed,
            nothing,
            self.finished,
            self.passes,
            self.scores,
            self.likeliest,
            self.drafted,
            self.drafts,
            self.drafter,
            own=False,
        )


@dataclass(frozen=True)
class Location:
    """The part of a source after its scheme, as in `package:module/file`."""

    location: str


@dataclass(frozen=True, eq=False)
class MaskDescription:
    """The keys that the queries of one pass may see, from which an attention backend builds its mask.

    kind `causal`: a query at position p sees the keys in slots <= p. kind `block`: every query sees the slots below its
    row's length and all slots of its own block, which follow on them. positions [B, n]: the slot of each query, one
    after the other; a prefill's columns are rolled, so that a shorter row's scratch columns come first; so do columns
    that a row does not use in a block, which repeat its first slot. lengths [B]: keys committed before the pass.
    extent: number of key slots the pass reads. A layer's window w hides keys w or more slots before the query.

    kind `tree`: column i of the pass has its key in the slot i after its row's length, and sees the slots below that
    length and those of its own path. paths [B, n, n]: whether a column, in the second dimension, has another one on its
    path, itself included. positions [B, n]: the length and each column's depth, from 0 on; a window goes by positions.

    kind `blocks`: blocks behind the m - n columns of a scored draft, whose keys lie in the slots from the row's length
    on. Column i has its key in the slot m - n + i after the length, and sees the slots below the length and those of
    the m columns that paths [B, n, m] say. positions [B, n]: of these columns in the text; the draft's follow one
    another from the length on.
    """

    kind: Literal["causal", "block", "tree", "blocks"]
    positions: Tensor
    lengths: Tensor
    extent: int
    paths: Tensor | None = None


@dataclass(frozen=True, eq=False)
class RowState:
    """The rows' state for a draft pass, [B] each: committed tokens, the newest of them, and room for more."""

    lengths: Tensor
    anchors: Tensor
    room: Tensor


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows [R, L] that texts are packed into, one after the other, for training.

    token_ids [R, L]. starts [R, L]: the column at which the text of each token begins, which is its position 0.
    """

    token_ids: Tensor
    starts: Tensor


@dataclass(frozen=True, eq=False)
class MaskedBlocks:
    """Blocks of masks in packed rows: anchors [R, N] columns, each followed by size - 1 mask tokens."""

    anchors: Tensor
    size: int
    mask_token_id: int


@dataclass(frozen=True)
class AttentionCapabilities:
    """Declare where an attention backend works; an empty set means everywhere.

    graphs: whether its calls can be captured in a CUDA graph and replayed over other lengths. hides_any_value: whether
    what a query may not see may be NaN or infinite. plain: whether it is softmax attention without anything else, so
    that an engine may compute it by a kernel of its own. steady: whether a query gets the bits that it gets alone, as
    far as the backend's docs say. most_steady_slots, most_steady_tokens: up to which it does in a pass over prompts,
    tokens being of all rows; None: any number.
    """

    devices: frozenset[str] = frozenset()
    dtypes: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset({"causal", "block"})
    head_sizes: frozenset[int] = frozenset()
    windows: bool = True
    softcap: bool = False
    sinks: bool = False
    graphs: bool = True
    hides_any_value: bool = True
    plain: bool = False
    steady: bool = False
    most_steady_slots: int | None = None
    most_steady_tokens: int | None = None


@dataclass(frozen=True)
class Parts:
    """The parts built so far, in building order; a factory reads those before it.

    make: builds a further part for the caller alone, see `orthrus.interfaces.MakePart`.
    """

    source: Any = None
    attention: Any = None
    cache: Any = None
    target: Any = None
    drafter: Any = None
    verifier: Any = None
    notify: Any = field(default=lambda message: None)
    make: Any = field(default=lambda kind, options=None: _made_by_nobody(kind))


def _made_by_nobody(kind: str) -> Any:
    raise BuildError(f"no {kind} can be made here: only what a config composes is built from the catalog")


@dataclass(frozen=True)
class Piece:
    """A piece of streamed text, whether its last token was an accepted draft, and the step that committed it."""

    text: str
    accepted: bool
    step: Step


@dataclass(frozen=True)
class ShownDraft:
    """A draft as a request's event shows it: all tokens that were proposed, and whose; None: there are none.

    Of a tree they are those of all branches.
    """

    token_ids: tuple[int, ...] = ()
    drafter: str | None = None

    def rejected(self, accepted: Sequence[int]) -> list[int]:
        """Return the tokens that are not among these, which were accepted."""
        left = list(self.token_ids)
        for token in accepted:
            left.remove(token)  # of a chain the first one each time; of equal ones in a tree any will do
        return left


@dataclass(frozen=True, eq=False)
class Event:
    """The news of one request of a session in one step: what it committed, and its result if it has ended.

    token_ids: the tokens committed, of which the first `accepted` were drafts. texts: for each of them the text that
    became safe to show. rest: text that was held back until the end. scores: of each token, if asked for. step: None
    for a request that ended outside of a step, by its cancellation or because it has no room. drafted: how many drafts
    were proposed, in a session that counts them; else 0. draft: the drafts and whose they are, for a request that shows
    them. error: what the tokenizer raised at this request's tokens, which ended it without a result.
    """

    id: str
    token_ids: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    rest: str = ""
    accepted: int = 0
    scores: tuple[TokenScores, ...] | None = None
    step: Step | None = None
    result: Result | None = None
    drafted: int = 0
    draft: ShownDraft | None = None
    error: Exception | None = None

    @property
    def text(self) -> str:
        """The text that became safe to show; that of all events of a request is its result's text."""
        return "".join(self.texts) + self.rest


@dataclass(frozen=True)
class Result:
    """One answer: its text and tokens, why it ended, and its measures.

    A stop token is among the tokens; the text is without special tokens. finish_reason is None for a stream that was
    left before its end. scores: of each token, if they were asked for. restored_tokens: leading ones of the prompt that
    were not passed over, as the cache held their keys from earlier texts.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    prompt_token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    measures: Measures
    scores: tuple[TokenScores, ...] | None = None
    restored_tokens: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `orthrus run --json` prints."""
        return {
            "id": self.id,
            "text": self.text,
            "token_ids": list(self.token_ids),
            "prompt_tokens": len(self.prompt_token_ids),
            "new_tokens": len(self.token_ids),
            "finish_reason": self.finish_reason,
            **self.measures.to_dict(),
        }


@dataclass(frozen=True)
class BaselineAnswer:
    """A baseline's answer: each prompt's new tokens, up to and with a stop token, and no more than the limit.

    ttft_seconds: from the call to the first token. cycles: passes of the model after the first. None: it cannot tell.
    """

    token_ids: tuple[tuple[int, ...], ...]
    ttft_seconds: float | None = None
    cycles: int | None = None
