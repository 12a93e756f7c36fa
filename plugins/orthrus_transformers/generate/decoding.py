"""Decoding of the requests of one call of `generate`, each column given on as soon as it is complete."""

from __future__ import annotations

import dataclasses

from orthrus import Decoder, InputError
from orthrus_transformers.generate.columns import Columns
from orthrus_transformers.generate.requests import Requests


def decode(decoder: Decoder, requests: Requests, columns: Columns) -> None:
    """Decode until every row has ended; raise InputError if the decoder cannot do what is asked for."""
    _check_fit(decoder, requests)
    seeded = decoder if requests.seed is None else dataclasses.replace(decoder, seed=requests.seed)
    session = seeded.session(len(requests.prompts), interleaves=False)
    for row, prompt in enumerate(requests.prompts):
        session.add(prompt, id=str(row), stop=requests.stop, sampling=requests.sampling)
    for event in session:
        if event.error is not None:
            raise event.error
        columns.add(int(event.id), event.token_ids)
        if columns.done:
            return
        for name in map(str, columns.ended_rows):
            if name in session:
                session.cancel(name)
    raise InputError(
        f"rows have filled the model's context of {decoder.target.max_length} tokens, and no stopping criterion has"
        " ended them; set max_new_tokens"
    )


def _check_fit(decoder: Decoder, requests: Requests) -> None:
    if requests.seed is not None and decoder.verifier.greedy:
        raise InputError(
            f"generate(do_sample=True) draws, and the config's verifier '{type(decoder.verifier).__name__}' decodes"
            " greedily; set verifier: {name: coupled}"
        )
    longest, limit = max(map(len, requests.prompts)), decoder.target.max_length
    if requests.bounded and limit is not None and longest + requests.stop.max_new_tokens > limit:
        raise InputError(
            f"a prompt of {longest} tokens and {requests.stop.max_new_tokens} new ones are more than the model's"
            f" context of {limit}; set max_new_tokens={max(1, limit - longest)} or less"
        )
