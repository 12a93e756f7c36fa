"""Threads that share a session, and threads that share a decoder."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from support.building import target_oracle
from support.sessions import Answered, assert_alone, random_request
from support.small_sessions import LETTERS, LONGEST, add, finish, generated, session_of, target_of
from torch import Tensor

from orthrus import Context, Decoder, Event, InputError, Stop
from orthrus.reference.table import TableTarget
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus


def test_one_thread_iterates_while_another_adds_and_cancels() -> None:
    target = target_of()
    session = session_of(target)
    chooser = random.Random(0)
    requests = [random_request(chooser, f"t{number}", 8, LETTERS) for number in range(60)]
    answers = {request.id: Answered() for request in requests} | {"long": Answered()}
    session.add("ab", id="long", stop=Stop(30))

    def come_and_go() -> None:
        for number, request in enumerate(requests):
            add(session, request)
            if number % 5 == 0:
                try:
                    session.cancel(request.id)
                except InputError as error:  # it was quicker
                    assert "it has ended" in str(error)
                else:
                    answers[request.id].cancelled = True

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(come_and_go)
        while not coming.done() or session.pending:
            finish(session, answers)
        coming.result()
    finish(session, answers)
    for request in requests:
        assert_alone(target, request, answers[request.id])
    assert sum(answer.cancelled for answer in answers.values()) > 5


def test_threads_that_generate_on_one_decoder_are_served_one_after_the_other() -> None:
    target = target_of()
    decoder = Decoder.of(target, PromptLookup(2, 1, 4), Consensus(), Stop(20))
    asked = [[[first, second] for second in range(8)] for first in range(4)]
    alone = [generated(Decoder.of(target_of(), NoDrafter(), Consensus(), Stop(20)), prompts) for prompts in asked]
    together = threading.Barrier(len(asked))

    def answer(prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        together.wait()
        return generated(decoder, prompts)

    with ThreadPoolExecutor(len(asked)) as pool:
        assert list(pool.map(answer, asked)) == alone


class Slow(TableTarget):
    """A table that passes over a prompt in very many chunks."""

    most, chunks = 1500, 0

    def prefill_chunks(self, context: Context, rows: Sequence[int]) -> Iterator[Tensor | None]:
        while self.chunks < self.most:
            self.chunks += 1
            time.sleep(0.001)
            yield None
        yield self.prefill(context, rows)


def test_a_request_alone_in_its_prefill_is_cancelled_before_its_first_token() -> None:
    """Between two chunks other threads get in, though no row goes on beside them and there is no event."""
    table = target_of()
    target = Slow(table.table.view(8, 8, 8), DynamicCache(), tokenizer=table.tokenizer, max_length=LONGEST)
    session = session_of(target)
    session.add("ab", id="long")
    with ThreadPoolExecutor(1) as pool:
        iterated = pool.submit(list[Event], session)
        while target.chunks < 5:
            time.sleep(0.001)
        session.add("cd", id="next", stop=Stop(6))  # one that comes meanwhile
        session.cancel("long")
        gone = target.chunks
        target.most = 3
        events = iterated.result()
    assert 5 <= gone < 700
    [cancelled] = [event for event in events if event.id == "long"]
    assert cancelled.result is not None and cancelled.result.finish_reason == "cancelled"
    assert cancelled.result.token_ids == () and cancelled.result.measures.ttft_seconds is None
    [answer] = [event.result for event in events if event.id == "next" and event.result]
    assert answer.token_ids == target_oracle(table)(answer.prompt_token_ids, Stop(6)).token_ids
