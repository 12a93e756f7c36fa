"""Abilities that a part may have besides what its interface asks for; whoever wants one asks by `isinstance`.

Each is as small as the question. Asking looks at all members, so those that are attributes must cost nothing to read;
from Python 3.12 on a member that `__getattr__` gives is not seen: a part that wraps another one has them itself.
B: rows, n: width of a draft, V: size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from orthrus.interfaces import KVCache, Target
from orthrus.values import MaskedBlocks, PackedRows, RowState, TappedStates, TapPoint, Trial

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from orthrus.batch.context import Context
    from orthrus.batch.turn import Turn
    from orthrus.chance import Chance


@runtime_checkable
class Named(Protocol):
    """A part with a name of its own, which messages call it by."""

    name: str


def name_of(part: object) -> str:
    """Return what messages call a part: its name, or that of its class."""
    return part.name if isinstance(part, Named) else type(part).__name__


@runtime_checkable
class DraftsAhead(Protocol):
    """A drafter that launches its next draft while the host waits for what was committed."""

    def ahead(self, context: Context, chance: Chance) -> bool | None:
        """Launch what the next `propose` returns, from what is on the device; return False if nothing was launched."""


@runtime_checkable
class PrefixConsistent(Protocol):
    """A drafter that says whether its draft follows from a row's committed text alone, a shorter one as its beginning.

    What was drafted or accepted before changes nothing then. `orthrus predict` asks it once, at its largest block.
    """

    prefix_consistent: bool


@runtime_checkable
class CoupledVerifier(Protocol):
    """A verifier that says whether its choices are those of the noise of seed, request and position, and no others."""

    coupled: bool


def is_coupled(verifier: object) -> bool:
    """Tell whether a verifier takes the choices that noise decides."""
    return isinstance(verifier, CoupledVerifier) and verifier.coupled


@runtime_checkable
class Reports(Protocol):
    """A target or drafter that tells `orthrus bench` what it is and what it chose."""

    def report(self) -> Mapping[str, Any]:
        """Return what runs the passes and what it holds, or what was chosen, as names and plain values."""


@runtime_checkable
class HasFingerprint(Protocol):
    """A target or drafter with weights, so that runs with other weights are told from its own."""

    def fingerprint(self) -> str:
        """Return what tells the weights from others, whatever dtype they are computed in."""


@runtime_checkable
class StaticKVCache(KVCache, Protocol):
    """A KV cache whose buffers stay in place, so that a pass over it can be captured and replayed."""

    generation: int  # counts how often the buffers moved: what was captured before is void
    max_slots: int | None  # that a row may have; None: any number

    def reserve(self, layer: int, like: Tensor, heads: int, size: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return a layer's buffers [B, heads, C, size] and the placed slots, to be written by a kernel, or None.

        None: the pass is not over all rows, and `update` must be used.
        """

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return all keys and values of a layer [B, heads, slots, size], as `update` would."""


@runtime_checkable
class PlacesAdjacentRows(KVCache, Protocol):
    """A KV cache that gives views, not copies, of some of its rows, if these are one after the other."""

    def place_adjacent(self, slots: Tensor, extent: int, first: int) -> int:
        """Do what `place` does for a pass over the R rows from number `first` on, each once."""


@runtime_checkable
class LendsBuffers(KVCache, Protocol):
    """A KV cache whose keys and values lie in plain tensors, slot p of a row for its token at position p."""

    def lend(self, layers: int, like: Tensor, heads: int, size: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the keys and the values of all layers, [B, heads, C, size] each, one shape and layout for all.

        A kernel may write the placed slots of the placed rows, as `update` would, and read all. C covers the extent
        that was placed. The tensors are lent for the pass that was placed. like: tells dtype and device.
        """


@runtime_checkable
class HasSpecialTokens(Protocol):
    """A tokenizer that tells which of its tokens `decode` leaves out of a text, so that they can end one."""

    special_tokens: Mapping[str, int]


@runtime_checkable
class DescribesTokens(Protocol):
    """A tokenizer that tells which tokens play which part, and the template of its chats, as its files name them."""

    def description(self) -> Mapping[str, str | None]:
        """Return the texts `bos_token`, `eos_token`, `pad_token`, `unk_token` and `chat_template`; None for none."""


@runtime_checkable
class HasVocabulary(Protocol):
    """A tokenizer that tells what each of its tokens is, so that two can be compared."""

    def vocabulary(self) -> Mapping[str, int]:
        """Return the id of each token, special ones included, by its text."""


@runtime_checkable
class ScoresTexts(Protocol):
    """A target that gives the logits along a text in chunks, so that those of a long one need not fit into memory."""

    def text_logits(self, token_ids: Sequence[int], chunk: int) -> Iterator[Tensor]:
        """Yield the logits [n, V] after the tokens of one sequence, from scratch, n <= chunk of them at a time.

        They are those of `logits`, but for rounding. No decoding's cache is used: steps may come between two chunks.
        """


@runtime_checkable
class LoadedTarget(Protocol):
    """A target that tells what its model is, for `orthrus verify`, whose certificates are of the model as loaded."""

    def provenance(self) -> str:
        """Return a sentence: where the model is from, and how it was held against that."""


@runtime_checkable
class MovesRows(Protocol):
    """A target, KV cache or drafter whose rows can be added, moved and taken away while requests are decoded."""

    moves_rows: bool  # whether it can, as it was made

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources: each has what the row of that number had, -1 an empty row.

        A row that is not its own source has a number that is no other row's source.
        """


@runtime_checkable
class FreesRows(Protocol):
    """A target that gives back what it holds of rows as soon as they end, and not only when others take their place."""

    def free_rows(self, context: Context, rows: Sequence[int]) -> None:
        """Hold nothing of these rows, which have ended or were never begun.

        Passes over all rows go on; what they return for these is not read until they are prefilled.
        """


@runtime_checkable
class BoundsRows(Protocol):
    """A target or KV cache whose memory bounds what rows hold together, so that requests may have to wait."""

    def refusal(self, slots: Sequence[int]) -> str | None:
        """Return why rows that come to so many slots each cannot go on together, and what to set; None: they can.

        Fewer rows, or shorter ones, are never refused where these are not.
        """


@runtime_checkable
class TracksRows(KVCache, Protocol):
    """A KV cache that is told where rows begin and end, and holds nothing of those that have ended."""

    def begin_rows(self, rows: Sequence[int], slots: Sequence[int | None]) -> None:
        """Hold nothing of these rows, which begin anew.

        slots: that each comes to, and what is written beyond them may be lost; None: nobody knows.
        """

    def end_rows(self, rows: Sequence[int]) -> None:
        """Hold nothing of these rows; what passes write for them, and get of them, does not matter until they begin."""


@runtime_checkable
class SharesPrefixes(TracksRows, Protocol):
    """A KV cache that keeps keys and values of texts, so that rows which begin with the same tokens can have them."""

    shares_prefixes: bool  # whether it does, as it was made

    def held_prefix(self, tokens: Sequence[int]) -> int:
        """Return how many leading tokens of a text are held, in whole blocks."""

    def adopt_prefix(self, row: int, tokens: Sequence[int]) -> int:
        """Let a row that has just begun hold a text's leading tokens as if passed over; return how many they are."""

    def offer_prefix(self, row: int, tokens: Sequence[int]) -> None:
        """Keep what a row's first slots hold, which is of these tokens, for others; called before the row ends."""

    def forget_prefixes(self) -> None:
        """Keep none of the texts so far, as other weights have other keys; rows keep the keys that they hold."""

    def write_states(self, states: Tensor) -> None:
        """Keep states [R, n, W] with the slots that the last pass wrote, W the same until prefixes are forgotten."""

    def read_states(self, row: int, count: int) -> Tensor:
        """Return the states [count, W] of a row's first slots, which it has adopted."""


@runtime_checkable
class RestoresPrefixes(Protocol):
    """A target that passes over no leading tokens of prompts whose keys its cache holds, and hands their taps on."""

    restores_prefixes: bool  # whether it does, as it was made

    def restored(self, row: int) -> int:
        """Return how many leading tokens of a row's prompt its last prefill did not pass over."""


@runtime_checkable
class PrefillsInChunks(Protocol):
    """A target whose prefill may be interrupted between two chunks, so that other rows go on meanwhile."""

    def prefill_chunks(self, context: Context, rows: Sequence[int]) -> Iterator[Tensor | None]:
        """Yield None after each chunk of the rows' prompts but the last, which yields what `prefill` returns.

        Passes over all rows may come between two of them; those of the rows that are not through are not read.
        """


@runtime_checkable
class BoundsSlots(Protocol):
    """A target or KV cache whose rows may have so many slots, and no more."""

    max_slots: int | None  # None: any number


@runtime_checkable
class HoldsCache(Protocol):
    """A target whose KV cache can be asked how much it holds."""

    @property
    def cache(self) -> KVCache:
        """What keeps the keys and values of its passes."""


@runtime_checkable
class TakesTurns(Protocol):
    """A target that notices a second decoding, and lets one thread at a time use it."""

    turn: Turn


@runtime_checkable
class MeasuredTarget(Protocol):
    """A target that tells `orthrus bench` what its passes must read."""

    def pass_bytes(self, lengths: Sequence[int]) -> int:
        """Return the bytes of weights, keys and values that this process reads in a pass over rows so long."""


@runtime_checkable
class HasPassIdentity(Protocol):
    """A target that tells what its passes' times depend on."""

    def pass_identity(self) -> Mapping[str, Any]:
        """Return all of the target that decides how long its passes take, as names and plain values.

        With it, what `AutoBlock` measures is kept for other processes on the machine.
        """


@runtime_checkable
class HasDtype(Protocol):
    """A target that tells the dtype in which it computes."""

    dtype: torch.dtype


@runtime_checkable
class WidenedTarget(Protocol):
    """A target whose weights can be computed in a wider dtype, where its own rounding is to be judged."""

    def widened(self, dtype: torch.dtype) -> Callable[[Sequence[int], int], Tensor]:
        """Return what `logits` is, over a copy of the very same weights that computes in another dtype."""


@runtime_checkable
class ViewTarget(Target, Protocol):
    """A target with the capability `views`: each layer may have further attentions, which a pass can go through."""

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


class TapReader(Protocol):
    """What a tapped target hands the hidden states of its passes to, as soon as a pass is launched."""

    def prompt(self, tapped: TappedStates, last: bool) -> None:
        """Take the states of a chunk of prompts; last: whether these prompts end with it."""

    def scored(self, states: Tensor, starts: Tensor) -> None:
        """Take the states [B, n + 1, T h] of a scored draft: of the anchor at positions starts [B], then of its tokens.

        How many of them stay is known once the step is committed.
        """


@runtime_checkable
class TappedTarget(Target, Protocol):
    """A target with the capabilities `hidden_states` and `embeddings`. h: its hidden size."""

    hidden_size: int
    layer_count: int

    def tap(self, points: Sequence[TapPoint], reader: TapReader | None) -> None:
        """From now on hand the states at these points of its own passes to a reader; no points: to nobody.

        Drafts' passes are not tapped. Raises BuildError for a point that the model does not have.
        """

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the rows [B, n, h] of the embedding table for tokens [B, n], as they are stored."""

    def head(self, hidden: Tensor) -> Tensor:
        """Return the output head's products [B, n, V] of states [B, n, h] after a final norm."""


@runtime_checkable
class ReadsTaps(Protocol):
    """A drafter that reads hidden states of the target at points that it declares.

    Its rows must be able to move where the target's can (`MovesRows`), or B stays what it is.
    """

    taps: Sequence[TapPoint]

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        """Take the states of committed tokens: of every one but the newest, once, in the order of their positions.

        Those of a prompt come chunk by chunk before `start`, from position 0 on, which begins the row anew; those of a
        cycle once its tokens are committed on the device, before the next draft is launched and before `observe`.
        """


@runtime_checkable
class OffersTrials(Protocol):
    """A drafter that knows how it may have been set wrongly, for `orthrus doctor`."""

    def trials(self) -> Sequence[Trial]:
        """Return changes of its options that are worth trying, one thing each; none of them changes the target's text.

        They are relative to the options that it was made with. One with which the drafter cannot be made is passed
        over, with the reason.
        """


@runtime_checkable
class ReadsLikeliest(Protocol):
    """A drafter that wants the likeliest tokens of every scored place, in `step.likeliest`."""

    likeliest: int  # how many


class DraftPass(Protocol):
    """A drafter's forward pass with its pre- and post-processing: its tokens, and the result of its logits.

    Where a target can, it records all of that as one, so the methods compute on the device from their arguments alone,
    and read no value. Passes that are equal (`==`) share a recording. The last column is not projected onto the
    vocabulary, because what follows a draft is not asked for.
    """

    @property
    def width(self) -> int:
        """The tokens of a row that it is over, 2 or more."""

    @property
    def spare(self) -> bool:
        """Whether a row may use fewer; its spare columns come first and repeat the anchor's position."""

    def tokens(self, rows: RowState) -> Tensor:
        """Return the tokens [B, width] of the pass."""

    def positions(self, rows: RowState) -> Tensor:
        """Return their positions [B, width]; asked for if `spare`, else they follow one another from the anchor's."""

    def result(self, rows: RowState, logits: Tensor) -> Tensor:
        """Return what is wanted of the logits [B, width - 1, V]."""


@runtime_checkable
class DraftingTarget(Protocol):
    """A target that runs a drafter's pass with its pre- and post-processing as one; see `run_draft_pass`."""

    def draft(
        self,
        context: Context,
        draft_pass: DraftPass,
        *,
        view: str | None = None,
        kind: Literal["causal", "block"] = "block",
    ) -> Tensor:
        """Return the pass's result, which may be written over by the next such pass; scratch slots only are written.

        Where rows are is read from the context on the device, never from the cache, which may be one step behind.
        """


@runtime_checkable
class HasModelPath(Protocol):
    """A target that knows the file or directory which its model was loaded from; None for one that was handed over."""

    model_path: Path | None


class DualPass(Protocol):
    """Run the two passes of training a view. E: hidden size, N: blocks of a row, K: size of a block."""

    plain_head: bool  # whether `project` is one matrix, which a compiler can look into

    def committed(self, rows: PackedRows) -> Tensor:
        """Return the frozen model's hidden states [R, L, E], and keep its keys and values."""

    def drafted(self, rows: PackedRows, blocks: MaskedBlocks) -> Tensor:
        """Return the view's hidden states [R, N, K, E], with gradients, in the rows that `committed` saw last."""

    def project(self, hidden: Tensor, correction: Tensor | None = None) -> Tensor:
        """Return the logits [..., V] of states [..., E], plus the output head's products with a correction [..., E]."""

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the rows [..., E] of the embedding table for tokens [...], as they are stored."""

    def close(self) -> None:
        """Forget the keys and values; the view's weights have no gradients from here on."""


@runtime_checkable
class TrainableTarget(ViewTarget, Protocol):
    """A target with the capability `training`: its views can be trained."""

    def dual_pass(self, view: str, flex: bool | None = None) -> DualPass:
        """Return the passes that train an attached view; flex: FlexAttention, dense masks, or what suits (None)."""
