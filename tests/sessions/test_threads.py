"""Threads that share a session, and threads that share a decoder."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from support.sessions import Answered, assert_alone, random_request
from support.small_sessions import LETTERS, add, finish, generated, session_of, target_of

from orthrus import Decoder, InputError, Stop
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
