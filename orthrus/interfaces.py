"""What plugins implement. One sentence a method says what must hold; docs/hooks.md says when each is called.

B: rows, n: width of a draft, V: size of the vocabulary, H: heads, D: size of a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from orthrus.values import (
    AttentionCapabilities,
    BaselineAnswer,
    Draft,
    MaskDescription,
    MaskedBlocks,
    PackedRows,
    Prompt,
    RowState,
    Step,
    Stop,
    Verdict,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from orthrus.batch.context import Context
    from orthrus.chance import Chance


class Source(Protocol):
    """Find the files of a model."""

    def fetch(self) -> Path:
        """Return a local file or directory; raise InputError with one sentence if there is none."""


class Tokenizer(Protocol):
    """Turn prompts into tokens and tokens into text."""

    def encode(self, prompt: Prompt, chat: bool | None = None) -> list[int]:
        """Return the prompt's tokens; chat None follows the target's option, True and False override it."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text without special tokens; the text of a prefix is a prefix, up to an unfinished character."""


@runtime_checkable
class AttentionBackend(Protocol):
    """Compute attention for every layer of a target."""

    capabilities: AttentionCapabilities

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Any:
        """Return what `attend` needs for the layers with this window, built once a pass."""

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prepared: Any,
        *,
        scale: float,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Return [B, H, n, D] for query [B, H, n, D] over key and value [B, H_kv, extent, D], copying neither."""


@runtime_checkable
class KVCache(Protocol):
    """Keep keys and values of rows of different lengths; slot p of a row belongs to its token at position p.

    Slots at or beyond a row's length are scratch: any pass may write there. Committed slots never change but by `keep`;
    slots written since the last `keep` outlast passes that do not write them, in any order and with gaps.
    All keys are kept, also those that a layer's window hides: the window is the mask's business.
    """

    lengths: Tensor  # [B] committed slots

    def start(self, rows: int, device: torch.device) -> None:
        """Forget everything and hold `rows` rows of length 0."""

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Set where the next pass writes: slots [R, n], distinct in a row; extent: the highest slot of all, plus 1.

        rows [R]: which rows the pass is over; None: all. A row may be among them more than once, also so that R is more
        than there are, if all its copies write the same slots with the same keys and values: passes are padded like
        that. Return how many slots `update` will return: extent, or more.
        """

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] into the placed slots of a layer and return all keys and values of the placed rows.

        H and D are those of the layer: layers may differ in them.
        """

    def keep(self, lengths: Tensor) -> None:
        """Commit exactly the first lengths [B] slots of each row; the rest is scratch from here on."""

    def bytes_in_use(self) -> int:
        """Return the bytes that keys and values occupy."""


class StaticKVCache(KVCache, Protocol):
    """Be a KV cache whose buffers stay in place, so that a pass over it can be captured and replayed."""

    generation: int  # counts how often the buffers moved: what was captured before is void

    def reserve(self, layer: int, like: Tensor, heads: int, size: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return a layer's buffers [B, heads, C, size] and the placed slots, to be written by a kernel, or None.

        None: the pass is not over all rows, and `update` must be used.
        """

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return all keys and values of a layer [B, heads, slots, size], as `update` would."""


@runtime_checkable
class Target(Protocol):
    """Be the model whose text is produced."""

    capabilities: frozenset[str]  # of: tokenizer, logits, embeddings, hidden_states, views, training
    vocabulary_size: int
    max_length: int | None  # positions the model can take; None: any number
    stop_token_ids: frozenset[int]  # the model's own
    device: torch.device
    tokenizer: Tokenizer | None

    def start(self, context: Context) -> None:
        """Forget everything and make room for the context's rows."""

    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        """Pass over the prompts of some rows, which are new; return the logits [B, 1, V] after each one's last token.

        What is returned for the other rows is not read; their cache stays as it is.
        """

    def score(self, context: Context, draft: Draft) -> Tensor:
        """Return the logits [B, n + 1, V] after the anchor and after each draft token, from one pass."""

    def keep(self, step: Step) -> None:
        """Forget what was not committed: the cache's length becomes the position of the anchor."""

    def logits(self, token_ids: Sequence[int], last: int) -> Tensor:
        """Return the logits [last, V] after the last tokens of one sequence, from scratch: no cache, no other state."""


class MeasuredTarget(Target, Protocol):
    """Be a target that tells `orthrus bench` what its passes must read and what runs them, and what they depend on."""

    def pass_bytes(self, lengths: Sequence[int]) -> int:
        """Return the bytes of weights, keys and values that one pass over rows with this many tokens must read."""

    def report(self) -> Mapping[str, Any]:
        """Return what runs the passes and what it holds, as names and plain values."""

    def pass_identity(self) -> Mapping[str, Any]:
        """Return all of the target that decides how long its passes take, as names and plain values.

        With it, what `AutoBlock` measures is kept for other processes on the machine.
        """


class WidenedTarget(Target, Protocol):
    """Be a target whose weights can be computed in a wider dtype, where its own rounding is to be judged."""

    dtype: torch.dtype

    def widened(self, dtype: torch.dtype) -> Callable[[Sequence[int], int], Tensor]:
        """Return what `logits` is, over a copy of the very same weights that computes in another dtype."""


class ViewTarget(Target, Protocol):
    """Be a target with the capability `views`: each layer may have further attentions, which a pass can go through."""

    name: str  # what messages call the model
    directory: Path | None  # where its files are, if it came from files
    view_names: Collection[str]  # of the views that are attached

    def attach_view(self, name: str, weights: Mapping[str, Tensor] | None = None) -> None:
        """Give every layer a second attention: these weights, or copies of the model's own.

        Raises BuildError if the name is taken, the weights do not fit, or the model cannot have a view.
        """

    def detach_view(self, name: str) -> None:
        """Forget a view; raise BuildError if there is none of this name."""

    def view_weights(self, name: str) -> Mapping[str, Tensor]:
        """Return a view's weights, not copies, by the names of the model's weights that they stand beside."""

    def fingerprint(self) -> str:
        """Return what tells the model's own weights from others, whatever dtype they are computed in."""

    def forward(
        self,
        context: Context,
        tokens: Tensor,
        positions: Tensor,
        *,
        view: str | None = None,
        kind: Literal["causal", "block"] = "block",
    ) -> Tensor:
        """Return the logits [B, n, V] of tokens [B, n] that follow what is committed, writing scratch slots only.

        positions [B, n]: one after the other from the anchor's; columns that a row does not use come first, repeat the
        anchor's position and are not seen by the others. view None: the model's own attention. kind: as in a mask.
        """


class DraftPass(Protocol):
    """Say what stands around a drafter's pass: what it is over, and what is made of its logits.

    Where a target can, it records all of that as one, so the methods compute on the device from their arguments alone,
    and read no value. Passes that are equal (`==`) share a recording. The last column is not projected onto the
    vocabulary, because what follows a draft is not asked for.
    """

    @property
    def width(self) -> int:
        """Return how many tokens of a row it is over, 2 or more."""

    @property
    def spare(self) -> bool:
        """Tell whether a row may use fewer; its spare columns come first and repeat the anchor's position."""

    def tokens(self, rows: RowState) -> Tensor:
        """Return the tokens [B, width] of the pass."""

    def positions(self, rows: RowState) -> Tensor:
        """Return their positions [B, width]; asked for if `spare`, else they follow one another from the anchor's."""

    def result(self, rows: RowState, logits: Tensor) -> Tensor:
        """Return what is wanted of the logits [B, width - 1, V]."""


class DraftingTarget(ViewTarget, Protocol):
    """Be a view target that runs a drafter's pass and all that stands around it as one; see `run_draft_pass`."""

    def draft(
        self, context: Context, one: DraftPass, *, view: str | None = None, kind: Literal["causal", "block"] = "block"
    ) -> Tensor:
        """Return the pass's result, which may be written over by the next such pass; scratch slots only are written.

        Where rows are is read from the context on the device, never from the cache, which may be one step behind.
        """


class DualPass(Protocol):
    """Run the two passes of training a view. E: hidden size, N: blocks of a row, K: size of a block."""

    plain_head: bool  # whether `project` is one matrix, which a compiler can look into

    def committed(self, rows: PackedRows) -> Tensor:
        """Return the frozen model's hidden states [R, L, E], and keep its keys and values."""

    def drafted(self, rows: PackedRows, blocks: MaskedBlocks) -> Tensor:
        """Return the view's hidden states [R, N, K, E], with gradients, in the rows that `committed` saw last."""

    def project(self, hidden: Tensor) -> Tensor:
        """Return the logits [..., V] of hidden states [..., E]."""

    def close(self) -> None:
        """Forget the keys and values; the view's weights have no gradients from here on."""


class TrainableTarget(ViewTarget, Protocol):
    """Be a target with the capability `training`: its views can be trained."""

    def dual_pass(self, view: str, flex: bool | None = None) -> DualPass:
        """Return the passes that train an attached view; flex: FlexAttention, dense masks, or what suits (None)."""


@runtime_checkable
class Drafter(Protocol):
    """Propose what the target may say next. A poor proposal costs time, never correctness.

    An attribute `name`, if there is one, is what error messages call it.
    """

    needs: frozenset[str]  # capabilities of the target it cannot do without
    learns: bool  # whether it keeps anything from one prompt to the next

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Forget what was in these rows: each has a new prompt, and its first token."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return a draft for the rows, no longer than each row's room; drafts for rows that ended must be empty."""

    def observe(self, step: Step) -> None:
        """Take note of what was committed."""


@runtime_checkable
class Verifier(Protocol):
    """Decide how much of a draft the target agrees with: a pure function of its arguments."""

    greedy: bool  # whether it decodes at temperature 0 only

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return what to keep, given the processed logits [B, n + 1, V]."""


@runtime_checkable
class Baseline(Protocol):
    """Decode greedily with a target's model by other means than the loop: what a user has without Orthrus."""

    def answer(self, prompts: Sequence[Sequence[int]], stop: Stop) -> BaselineAnswer:
        """Return the answers to prompts decoded as one batch; raise InputError, one sentence, for what it cannot do."""


def members(protocol: type) -> list[str]:
    """Return the public names that an implementation of one of the protocols above must have."""
    names = [*getattr(protocol, "__annotations__", {}), *vars(protocol)]
    return sorted({name for name in names if not name.startswith("_")})


def methods(protocol: type) -> list[str]:
    """Return those of its members that are called."""
    return [name for name in members(protocol) if inspect.isfunction(vars(protocol).get(name))]
