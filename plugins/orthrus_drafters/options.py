"""Options of the drafters; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from orthrus import option
from orthrus.errors import unknown

GENERATORS = {"prompt_lookup": "transformers.generation.candidate_generator:PromptLookupCandidateGenerator"}


@dataclass(frozen=True)
class PromptLookupOptions:
    """Options of prompt lookup: the length of a match, and how much of what followed it is proposed."""

    max_ngram: int = option(3, minimum=1, maximum=64, help="longest run of last tokens that is looked for, tried first")
    min_ngram: int = option(2, minimum=1, maximum=64, help="shortest run of last tokens that counts as a match")
    length: int | Literal["auto"] = option(
        10,
        minimum=1,
        maximum=1024,
        help="most draft tokens a cycle; auto: up to 31, by what passes cost and what is accepted",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        if self.min_ngram > self.max_ngram:
            yield "min_ngram", f"is {self.min_ngram}, more than max_ngram, {self.max_ngram}"


@dataclass(frozen=True)
class SuffixOptions:
    """Options of suffix decoding: what counts as a match, how much follows from it, and how much is remembered."""

    length: int | Literal["auto"] = option(
        16,
        minimum=1,
        maximum=1024,
        help="most draft tokens a cycle; auto: up to 31, by what passes cost and what is accepted",
    )
    min_match: int = option(2, minimum=1, maximum=64, help="fewest last tokens that count as a match")
    max_match: int = option(32, minimum=1, maximum=64, help="most last tokens that are looked for")
    per_match: float = option(
        4.0, minimum=0.1, maximum=1024, help="most draft tokens for each token of the match; always at least one"
    )
    min_share: float = option(
        0.1, minimum=0.0, maximum=1.0, help="a draft ends where fewer of the places that matched went on so"
    )
    branches: int = option(
        1,
        minimum=1,
        maximum=64,
        help="most tokens that a draft has for one place: more than 1 makes trees, within the same length",
    )
    memory: int = option(
        65536, minimum=0, maximum=2**30, help="tokens of earlier answers that are kept, the newest; 0: none"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        if self.min_match > self.max_match:
            yield "min_match", f"is {self.min_match}, more than max_match, {self.max_match}"
        if self.branches > 1 and self.length == "auto":
            yield "branches", "makes trees, whose length is a number: set length, or branches=1"


@dataclass(frozen=True)
class CandidateGeneratorOptions:
    """Options of transformers' candidate generators: which one, made with what."""

    generator: str = option("prompt_lookup", help="prompt_lookup, or a class that can be imported, as module:Class")
    arguments: Mapping[str, int | float | str | bool | None] = option(
        {}, help="arguments of its constructor; of prompt_lookup: num_output_tokens and max_matching_ngram_size"
    )
    length: int = option(31, minimum=1, maximum=1024, help="most draft tokens a cycle; what is more is cut off")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        module, colon, name = self.generator.partition(":")
        if self.generator not in GENERATORS and not (colon and all(map(str.isidentifier, [*module.split("."), name]))):
            yield "generator", f"{unknown('generator', self.generator, GENERATORS)}; a class is written module:Class"


@dataclass(frozen=True)
class ReplayOptions:
    """Options of replay: how much is proposed a cycle, and how much of it is right."""

    block: int = option(16, minimum=1, maximum=1024, help="anchor and drafts of a cycle: one more than the drafts")
    acceptance: float = option(
        0.8, minimum=0.0, maximum=1.0, help="probability that a draft token is the one that followed last time"
    )
