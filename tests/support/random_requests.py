"""Requests of random cells: prompts of any length up to the model's context, with the settings that parts take."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from support.families import CONTEXT, VOCABULARY
from support.random_targets import ALPHABET
from support.sessions import Asked, random_request

LONG = 40  # tokens of answers that have time to repeat themselves
ENDS = 10  # stop tokens of answers that end before the host expects it


def drawn_requests(choose: random.Random, verifier: str, dtype: str, session: bool) -> tuple[Asked, ...]:
    """Return requests; those that come in a session differ in all settings, others in their prompts alone."""
    longest, letters = choose.choice([2, 9, 40, CONTEXT - 1]), choose.choice([VOCABULARY, 3])
    limit, ends = choose.choice([None, None, LONG]), choose.choice([0, 0, ENDS])
    requests = []
    for number in range(choose.randint(1, 6)):
        asked = random_request(choose, f"r{number}", VOCABULARY, ALPHABET, longest)
        often = asked.stop.token_ids.union(choose.sample(range(VOCABULARY), ends))
        stop = replace(asked.stop, max_new_tokens=limit or asked.stop.max_new_tokens, token_ids=often)
        requests.append(replace(asked, prompt=[token % letters for token in asked.prompt], stop=stop))
    if choose.random() < 0.3:  # prompts that begin alike
        longer = [*requests[0].prompt, *requests[-1].prompt][: CONTEXT - 1]
        requests.append(replace(requests[-1], id="again", prompt=choose.choice([requests[0].prompt, longer])))
    if not session:
        one = requests[0]
        requests = [Asked(asked.id, asked.prompt, one.stop, one.sampling, None, None) for asked in requests]
    return tuple(_taken(asked, verifier, dtype) for asked in requests)


def slots_of(requests: Sequence[Asked]) -> int:
    """Return the slots that the longest prompt and answer may come to."""
    return max(min(len(asked.prompt) + asked.stop.max_new_tokens, CONTEXT) for asked in requests)


def _taken(asked: Asked, verifier: str, dtype: str) -> Asked:
    """Return a request whose settings a verifier takes; in 16 bits the oracle cannot say what cuts leave."""
    sampling = asked.sampling
    if verifier == "consensus":
        sampling = replace(sampling, temperature=0.0)
    if dtype == "bfloat16":
        sampling = replace(sampling, top_k=None, top_p=1.0, min_p=0.0)
    return replace(asked, sampling=sampling, seed=asked.seed if verifier == "coupled" else None)
