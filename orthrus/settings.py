"""Stop, Sampling and WarmUp: when an answer ends, how logits become tokens, and what is done before the first one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orthrus.options import option


@dataclass(frozen=True)
class Stop:
    """The conditions under which a row ends; also the config's section `stop`."""

    max_new_tokens: int = option(
        256, minimum=0, maximum=1_000_000, help="most new tokens of an answer; the model's context may allow less"
    )
    min_new_tokens: int = option(0, minimum=0, help="no stop token or string ends an answer before this many tokens")
    token_ids: frozenset[int] = option(
        frozenset(), minimum=0, help="tokens that end an answer, besides the model's own; they are part of it"
    )
    strings: tuple[str, ...] = option((), help="texts that end an answer; they are cut off")
    past_end: bool = option(False, help="go on after the model's own stop tokens")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        if self.min_new_tokens > self.max_new_tokens:
            yield "min_new_tokens", f"is {self.min_new_tokens}, more than max_new_tokens, {self.max_new_tokens}"
        if "" in self.strings:
            yield "strings", "an empty text would end every answer at once"

    def cut(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Return new tokens up to and with the first stop token that counts, and no more than the limit."""
        most = tuple(tokens[: self.max_new_tokens])
        ends = (n for n, token in enumerate(most, 1) if token in self.token_ids and n >= self.min_new_tokens)
        return most[: next(ends, len(most))]


@dataclass(frozen=True)
class WarmUp:
    """The made-up answers that a decoder gives before its first real one; also the config's section `warm_up`."""

    rows: int = option(0, minimum=0, maximum=4096, help="rows of the largest batch; 0: nothing is warmed up")
    tokens: int = option(512, minimum=64, help="tokens of the longest text, prompt and answer together")
    seconds: float = option(30.0, minimum=0.0, help="no further made-up answer is begun after so long")


@dataclass(frozen=True)
class Sampling:
    """The settings by which the target's logits become tokens; also the config's section `sampling`."""

    temperature: float = option(0.0, minimum=0.0, help="what logits are divided by before a draw; 0 is greedy")
    top_k: int | None = option(None, minimum=1, help="draw from so many of the likeliest tokens; null: from all")
    top_p: float = option(1.0, maximum=1.0, help="draw from the fewest likeliest tokens of this probability together")
    min_p: float = option(
        0.0, minimum=0.0, maximum=1.0, help="draw no token with less than this share of the likeliest one's probability"
    )
    repetition_penalty: float = option(
        1.0, help="divides positive logits of tokens in prompt and answer, and multiplies negative ones"
    )
    presence_penalty: float = option(0.0, help="subtracted from the logits of tokens that are in the answer")
    frequency_penalty: float = option(
        0.0, help="subtracted from a token's logit as often as the token is in the answer"
    )
    logit_bias: Mapping[int, float] = option({}, help="added to the logits of single tokens, by token id")
    bad_words: tuple[str | tuple[int, ...], ...] = option(
        (), help="texts, or lists of token ids, that are never completed; a text stands for its tokens"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        for name in ("temperature", "repetition_penalty", "presence_penalty", "frequency_penalty"):
            if not math.isfinite(getattr(self, name)):
                yield name, f"must be a finite number, not {getattr(self, name)}"
        if self.top_p <= 0:
            yield "top_p", f"must be more than 0 and at most 1, not {self.top_p:g}"
        if self.repetition_penalty <= 0:
            yield "repetition_penalty", f"must be more than 0, not {self.repetition_penalty:g}"
        if any(bias == math.inf for bias in self.logit_bias.values()):
            yield "logit_bias", "a bias must be a finite number, or -.inf for a token that never comes"
        if not all(self.bad_words):
            yield "bad_words", "an empty bad word would forbid every token"
