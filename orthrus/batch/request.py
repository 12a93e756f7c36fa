"""A request, as a scheduler takes it, and a row: the state of one that is being decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

from orthrus.batch.detokenizer import Detokenizer
from orthrus.settings import Sampling, Stop
from orthrus.values import FinishReason, TokenScores


@dataclass(frozen=True)
class Request:
    """A prompt's tokens, and the settings that its answer is decoded with.

    key: what its noise is keyed by (see `Chance.gumbel`). likeliest: of how many tokens besides the chosen one scores
    are wanted; None: no scores at all. shows: whether its text is shown as it comes. drafts: whether its drafts are.
    """

    prompt: tuple[int, ...]
    stop: Stop
    sampling: Sampling = field(default_factory=Sampling)
    key: int = 0
    likeliest: int | None = None
    shows: bool = False
    drafts: bool = False


@dataclass(eq=False)
class Row:
    """One request's state on the host, as of the last step; request: its number, in the order of arrival.

    key: what its noise is keyed by. A row that no request has had yet has the number -1.
    """

    request: int
    key: int
    prompt: tuple[int, ...]
    room: int
    length: int  # of prompt and output
    output: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    text: Detokenizer | None = None  # only where stop strings are looked for, or text is shown as it comes
    stop: Stop = field(default_factory=Stop)
    sampling: Sampling = field(default_factory=Sampling)
    likeliest: int | None = None
    scores: list[TokenScores] = field(default_factory=list)  # one a token of the output, if they are wanted
    slots: int | None = None  # that prompt and answer come to at most; None: of no request
    restored: int = 0  # leading tokens of the prompt that were not passed over, as their keys were held
    pieces: list[str] | None = None  # of text, one a token, that became safe to show and were not taken yet
    drafts: bool = False  # whether its drafts are shown
    error: Exception | None = None  # of the tokenizer, at its tokens

    @classmethod
    def of(cls, number: int, request: Request, max_length: int | None, text: Detokenizer | None) -> Row:
        """Return the row of a request that has produced nothing; max_length: of prompt and answer together."""
        most, length = request.stop.max_new_tokens, len(request.prompt)
        room = most if max_length is None else min(most, max_length - length)
        return cls(
            number,
            request.key,
            request.prompt,
            room,
            length,
            finish_reason=None if room else "length",
            text=text,
            stop=request.stop,
            sampling=request.sampling,
            likeliest=request.likeliest,
            slots=length + room,
            pieces=[] if request.shows and text else None,
            drafts=request.drafts,
        )

    @classmethod
    def vacant(cls) -> Row:
        """Return a row of no request; it is in passes for their shape alone."""
        return cls(-1, 0, (0,), 0, 1, finish_reason="length")

    @classmethod
    def standing(cls, row: Row) -> Row:
        """Return what is in the place of a row while its prompt is passed over: it has no room, and is in no cycle.

        It is a token longer than the prompt, so that what cycles write of it is behind the prompt's slots.
        """
        return cls(-1, row.key, row.prompt, 0, row.length + 1, finish_reason="length", slots=row.slots)

    @property
    def live(self) -> bool:
        """Whether it goes on."""
        return self.finish_reason is None

    def read(self, tokens: list[int]) -> list[int]:
        """Return tokens that are to be added, up to one that completes a stop string; note the text they make.

        An error of the tokenizer is noted, too: a step is of all rows, and the others are not to end with this one.
        """
        if self.text is None:
            return tokens
        try:
            return self._read(self.text, tokens)
        except Exception as error:
            self.error = error
            return tokens

    def _read(self, text: Detokenizer, tokens: list[int]) -> list[int]:
        for count, token in enumerate(tokens, start=1):
            piece = text.feed(token, armed=len(self.output) + count >= self.stop.min_new_tokens)
            if self.pieces is not None:
                self.pieces.append(piece)
            if text.matched:
                return tokens[:count]
        return tokens

    def take_pieces(self) -> tuple[str, ...]:
        """Return the pieces of text that were noted since they were last taken."""
        if self.pieces is None:
            return ()
        pieces = tuple(self.pieces)
        self.pieces.clear()
        return pieces

    def finish_text(self) -> str:
        """Return the text that was held back, now that no token follows."""
        return "" if self.text is None or self.pieces is None else self.text.finish()
