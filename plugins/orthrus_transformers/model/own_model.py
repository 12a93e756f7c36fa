"""Transformers' own model of a target, with the attention that it came with: what passes are held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from orthrus_transformers.model.attention_hook import NAME, attach, is_attached
from orthrus_transformers.model.block_decoder import BlockDecoder
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.reference import copied, plain_logits


class OwnModel:
    """A target's model as transformers has it, attached to the state of the target's passes.

    Of one that was loaded without transformers it is made when it is first asked for.
    """

    def __init__(self, model: Any, state: PassState) -> None:
        """Attach the model; raises BuildError if its attention cannot be exchanged."""
        self._given, self._state = model, state
        self._attached: tuple[Any, str] | None = None
        if not isinstance(model, BlockDecoder):
            self._attached = model, attach(model, state)

    def _get(self) -> tuple[Any, str]:
        if self._attached is None:
            whole = self._given.whole()
            self._attached = whole, attach(whole, self._state)
        return self._attached

    @property
    def model(self) -> Any:
        """The model, whose attention goes through the backend."""
        return self._get()[0]

    @contextmanager
    def lent(self) -> Iterator[Any]:
        """Lend the model with its own attention; afterwards passes go through the backend again."""
        model, own = self._get()
        backend = model.config._attn_implementation
        model.set_attn_implementation(own)
        try:
            yield model
        finally:
            model.set_attn_implementation(backend)

    def widened(self, dtype: torch.dtype) -> Callable[[Sequence[int], int], Tensor]:
        """Return what gives a copy's logits that computes in another dtype; BuildError if memory does not hold it."""
        model, own = self._get()
        return partial(plain_logits, copied(model, own, dtype))

    def take_back(self) -> bool:
        """Route the attention through the backend again; return False if another target has the model now."""
        if self._attached is None:
            return True  # nobody else has what is not made yet
        model, _ = self._attached
        if not is_attached(model, self._state):
            return False
        model.set_attn_implementation(NAME)
        return True
