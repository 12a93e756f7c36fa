"""Subjects of a prediction: candidates with their decoders, all on one target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from orthrus.abilities import may_move
from orthrus.config.schema import Config
from orthrus.decoder import Decoder
from orthrus.errors import InputError, OrthrusError
from orthrus.optional import PrefixConsistent, is_coupled
from orthrus.prediction.candidates import Candidate
from orthrus.prediction.timing import Prompts, warm
from orthrus.trees import drafts_trees


class Subject:
    """A candidate and what decodes with it. make: builds a decoder of a config, on the target that all share."""

    def __init__(self, candidate: Candidate, make: Callable[[Config], Decoder]) -> None:
        self.candidate = candidate
        self._make = make
        with naming(candidate):
            self._decoder = make(candidate.config)

    @property
    def most(self) -> int | None:
        """The most drafts of a cycle; None: as many as the drafter drafts, which of trees is more than are accepted."""
        return self.candidate.block - 1 if isinstance(self.candidate.block, int) and not self.trees else None

    @property
    def trees(self) -> bool:
        """Whether drafts may be trees."""
        return drafts_trees(self._decoder.drafter)

    @property
    def learns(self) -> bool:
        """Whether the drafter keeps anything from one prompt to the next."""
        return self._decoder.drafter.learns

    @property
    def moves(self) -> bool:
        """Whether B follows the requests that go on."""
        return may_move(self._decoder.target, self._decoder.drafter)

    @property
    def probed(self) -> bool:
        """Whether one run at the largest block serves for all: the drafter says so, and drafts decide no token."""
        drafter, verifier = self._decoder.drafter, self._decoder.verifier
        consistent = isinstance(drafter, PrefixConsistent) and drafter.prefix_consistent
        return consistent and (verifier.greedy or is_coupled(verifier))

    @property
    def adapts(self) -> bool:
        """Whether what it drafts depends on what it has seen so far, so that a part of a decoding says little."""
        return self.learns and not self.probed

    def decoder(self, prompts: Prompts, batch: int) -> Decoder:
        """Return a decoder that knows no answer; one that learns is new, and has measured what its choices rest on."""
        if not self.learns:
            return self._decoder
        with naming(self.candidate):
            decoder = self._make(self.candidate.config)
            warm(decoder, prompts, batch)
        return decoder


@contextmanager
def naming(candidate: Candidate) -> Iterator[None]:
    """Tell whose drafter it is that cannot run."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise InputError(f"drafter '{candidate.drafter}' cannot run here: it ran out of memory") from None
    except OrthrusError as error:
        raise InputError(f"drafter '{candidate.drafter}' cannot run here: {error}") from error


def rotated(subjects: Sequence[Subject], number: int) -> list[Subject]:
    """Return the subjects as a round takes them: each round begins with the next one, so that none is always first."""
    first = number % len(subjects)
    return [*subjects[first:], *subjects[:first]]
