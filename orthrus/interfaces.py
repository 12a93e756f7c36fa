"""Interfaces of plugins. One sentence a method says what must hold; docs/reference/hooks.md says when each is called.

B: rows, n: width of a draft, V: size of the vocabulary, H: heads, D: size of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from orthrus.settings import Stop
from orthrus.values import (
    AttentionCapabilities,
    BaselineAnswer,
    Draft,
    MaskDescription,
    Prompt,
    Step,
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


class MakePart(Protocol):
    """Build a further target, KV cache, attention backend or drafter through the catalog: `Parts.make`."""

    def __call__(self, kind: str, options: Mapping[str, Any] | None = None) -> Any:
        """Return a new part of a kind, `target`, `cache`, `attention` or `drafter`, which is the caller's alone.

        options: as a config writes them, with the part's name; None: as the decoder's own part of this kind. Those of a
        target may have `cache` and `attention` beside its own options; without, it gets new ones like the decoder's. A
        drafter is made for the decoder's target; only drafters can make one, and its options must be given.
        Raises ConfigError for options that are wrong, BuildError or InputError if the part cannot be made.
        """


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


@runtime_checkable
class Target(Protocol):
    """The model whose text is produced."""

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
