"""Messages between the web process and the decoding process; importing them imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orthrus import Prompt

LEAST_LOGPROB = -9999.0  # JSON has no infinity


@dataclass(frozen=True)
class Generate:
    """Ask for one answer.

    chat: whether text goes through the chat template; None: as the config says. stop, sampling: what differs from the
    config's settings. noise: what the noise is keyed by besides the seed. logprobs: of how many of the likeliest tokens
    scores are wanted, besides the chosen one's. echo: whether the prompt comes back, with scores if there are any.
    streams: whether pieces are sent as they come. drafts: whether they show what was drafted.
    """

    id: str
    prompt: Prompt
    chat: bool | None = None
    stop: Mapping[str, object] = field(default_factory=dict)
    sampling: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    noise: str | None = None
    logprobs: int | None = None
    echo: bool = False
    streams: bool = False
    drafts: bool = False


@dataclass(frozen=True)
class GenerateAll:
    """Ask for the answers of one request, whose choices of a prompt have the same object as prompt: it is sent once."""

    requests: tuple[Generate, ...]


@dataclass(frozen=True)
class Messages:
    """Messages that the web process sends together, in order: those of one turn of its event loop."""

    messages: tuple[object, ...]


@dataclass(frozen=True)
class Cancel:
    """End a request; nothing more is sent of it."""

    id: str


@dataclass(frozen=True)
class Tokenize:
    """Ask for a prompt's tokens; special: with those that the tokenizer puts around every text."""

    id: str
    prompt: Prompt
    chat: bool | None = None
    special: bool = True


@dataclass(frozen=True)
class Detokenize:
    """Ask for the text of some tokens."""

    id: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Finish:
    """End the decoding process."""


@dataclass(frozen=True)
class Model:
    """The decoder that is served, as far as requests are checked against it.

    greedy: whether it decodes at temperature 0 only. seeded: whether a request may have a seed. row_slots: tokens that
    a row may have at most; None: any number. tokens: texts by part, such as `eos_token`, and the `chat_template`.
    drafter: its name.
    """

    vocabulary_size: int
    max_length: int | None
    row_slots: int | None
    greedy: bool
    seeded: bool
    has_text: bool
    tokens: Mapping[str, str | None]
    drafter: str = ""


@dataclass(frozen=True)
class Ready:
    """The first message of a decoding process whose decoder is loaded."""

    model: Model


@dataclass(frozen=True)
class Failed:
    """The last message of a decoding process that could not begin, or go on: the sentence for the user."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A sentence for the user, from before something slow, or about something that went wrong."""

    text: str


@dataclass(frozen=True)
class ScoredToken:
    """A token with the target's own log-probability; None for the first of a prompt, before which nothing stands.

    likeliest: text and log-probability of the likeliest tokens at its place.
    """

    text: str
    logprob: float | None
    likeliest: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Begun:
    """The first news of a request: it was taken. text, scored: of the prompt, if it is to be echoed."""

    id: str
    prompt_tokens: int
    text: str = ""
    scored: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True)
class Refused:
    """The only news of a request that cannot be honoured; internal: it is not the request's fault."""

    id: str
    sentence: str
    internal: bool = False


@dataclass(frozen=True)
class Ending:
    """The end of an answer. Seconds are from the request's arrival where it is decoded; cycles: those of the answer.

    restored_tokens: leading tokens of the prompt that a cache of prefixes had.
    """

    reason: str
    cycles: int
    restored_tokens: int
    queue_seconds: float
    first_token_seconds: float | None
    seconds: float


@dataclass(frozen=True)
class Cycle:
    """What one step committed of an answer, and what it did not, as texts of tokens.

    accepted: of its draft. own: of the target's own token behind them; None: a stop came first. Those of all cycles
    make the answer's text. rejected: the rest of the draft. drafter: whose it was; None: nothing was drafted.
    """

    accepted: tuple[str, ...]
    own: str | None
    rejected: tuple[str, ...]
    drafter: str | None


@dataclass(frozen=True)
class Piece:
    """News of one answer since the last of it: text that is safe to show, and counts of tokens.

    accepted: of the tokens, how many were drafts. drafted: drafts that were proposed. cycles: the steps, if drafts are
    to be shown.
    """

    id: str
    text: str
    tokens: int
    accepted: int
    drafted: int
    scored: tuple[ScoredToken, ...] = ()
    ending: Ending | None = None
    cycles: tuple[Cycle, ...] = ()


@dataclass(frozen=True)
class Reply:
    """The answer to `Tokenize` or `Detokenize`."""

    id: str
    value: object


@dataclass(frozen=True)
class Statistics:
    """The state of the decoding now, and what was counted since the last ones.

    accepted_at: by position in a draft, how often it was accepted. gaps: seconds from a piece of an answer to the next,
    each with how many there were.
    """

    running: int
    waiting: int
    cache_tokens: int
    cache_bytes: int
    prompt_tokens: int
    generated_tokens: int
    drafts: int
    drafted_tokens: int
    accepted_tokens: int
    accepted_at: tuple[int, ...]
    gaps: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class News:
    """All that is new since the last message; statistics come with some of them. begun: come before the pieces."""

    pieces: tuple[Piece, ...]
    statistics: Statistics | None
    begun: tuple[Begun, ...] = ()


Update = Begun | Refused | Piece
