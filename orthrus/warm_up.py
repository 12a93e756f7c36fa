"""Warming up: made-up answers, after which hardly anything that real ones need is left to capture or measure."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from orthrus.decoder import Decoder
from orthrus.drafting.scripted_widths import ScriptedWidths
from orthrus.drafting.width_verifier import WidthVerifier
from orthrus.errors import InputError
from orthrus.optional import BoundsSlots
from orthrus.settings import Stop, WarmUp
from orthrus.trees import drafts_trees

PERIOD = 12  # tokens; a prompt repeats itself, so that drafters which look back find something
ANSWER = 24  # tokens of the answers that show how much is drafted
Shape = tuple[int, int]  # rows, and tokens of the prompts


@dataclass(frozen=True)
class WarmUpReport:
    """The outcome of a warm-up: shapes that were decoded, how many there were, and the seconds that they took."""

    done: int
    planned: int
    seconds: float


def warm_up(
    decoder: Decoder,
    settings: WarmUp,
    advance: Callable[[Shape], None] = lambda shape: None,
    clock: Callable[[], float] = time.perf_counter,
) -> WarmUpReport:
    """Decode made-up prompts of all shapes; begin no decoding after the time, and call `advance` after each shape.

    Before all, some tokens of the largest shape: buffers that grow later would take with them what was captured. Then
    the shapes, the smallest first. Each with the decoder's own drafter: up to a limit, and at each of the last places
    of an answer, where less and less is drafted; and with made-up drafts of every width up to the widest that was seen,
    as what is drafted depends on the text, unless they are trees. A drafter that learns sees the made-up prompts, too.
    Where greedy decoding goes without logits so does this: rows that draw, or want scores, find nothing captured.
    """
    begun, planned = clock(), shapes(decoder, settings)
    for rows, length in planned[-1:]:
        _decode(decoder, made_up_prompts(rows, length, decoder.target.vocabulary_size), rows, 2 * ANSWER)
    for done, (rows, length) in enumerate(planned):
        for action in _decodings(decoder, rows, length):
            if clock() - begun > settings.seconds:
                return WarmUpReport(done, len(planned), clock() - begun)
            action()
        advance((rows, length))
    return WarmUpReport(len(planned), len(planned), clock() - begun)


def shapes(decoder: Decoder, settings: WarmUp) -> list[Shape]:
    """Return what is to be decoded, the fewest rows and the shortest prompts first; raise InputError without room.

    Prompts of 32, 48, 64, 96, 128, ... tokens, so that each width of a prefill comes (`prefill_padding`).
    """
    bounds = (settings.tokens, decoder.target.max_length, _most_slots(decoder))
    most = min(bound for bound in bounds if bound is not None) - 2 * ANSWER
    if most < 1:
        raise InputError(
            f"warm_up: a text may have at most {most + 2 * ANSWER} tokens, and {2 * ANSWER + 1} are needed"
        )
    rows = [1 << power for power in range((settings.rows - 1).bit_length() + 1)] if settings.rows else []
    steps = itertools.chain.from_iterable((1 << power, 3 << power - 1) for power in range(5, 32))
    return list(itertools.product(rows, [*itertools.takewhile(lambda length: length < most, steps), most]))


def _most_slots(decoder: Decoder) -> int | None:
    return decoder.target.max_slots if isinstance(decoder.target, BoundsSlots) else None


def _decodings(decoder: Decoder, rows: int, length: int) -> Iterator[Callable[[], None]]:
    """Yield the decodings of one shape; each is to be done before the next is asked for.

    There is a prompt more than rows: it takes the row of one that ends, and drafters may do otherwise while one waits.
    """
    prompts = made_up_prompts(rows + 1, length, decoder.target.vocabulary_size)
    watched = WidthVerifier.around(decoder.verifier)
    yield lambda: _decode(replace(decoder, verifier=watched), prompts, rows, ANSWER)
    widest = max(watched.widths, default=0)
    for limit in range(
        1, min(2 * widest + 3, 2 * ANSWER) + 1
    ):  # up to two blocks and their anchors: how one ends depends on the other
        yield partial(_decode, decoder, prompts, rows, limit)
    if drafts_trees(decoder.drafter):  # their passes are of trees, which made-up drafts are not
        return
    scripted = replace(decoder, drafter=ScriptedWidths(range(widest + 1)))
    yield lambda: _decode(scripted, prompts, rows, 2 * ANSWER)


def _decode(decoder: Decoder, prompts: Sequence[Sequence[int]], rows: int, tokens: int) -> None:
    """Decode so many tokens of each prompt; nothing else ends an answer."""
    for _ in replace(decoder, stop=Stop(tokens)).steps(prompts, rows)[1]:
        pass


def made_up_prompts(count: int, length: int, vocabulary_size: int) -> list[list[int]]:
    """Return prompts, each of which repeats itself; the tokens are spread over the vocabulary.

    Every other one is a third shorter: where rows are not equally long, a drafter may launch a draft ahead that another
    would have no room for.
    """
    lengths = [length - number % 2 * length // 3 for number in range(count)]
    return [
        [(1 + number + index % PERIOD) * 7919 % vocabulary_size for index in range(size)]
        for number, size in enumerate(lengths)
    ]
