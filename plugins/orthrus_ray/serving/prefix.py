"""Routing by prefix: requests of one conversation go to one replica, unless it is much busier than another.

Replicas are ranked by rendezvous hashing (Thaler and Ravishankar 1998): a rank depends on nothing but the conversation
and the replicas, so ingresses agree without talking, and a replica that comes or goes moves only its own conversations.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from hashlib import blake2b

from orthrus import Prompt

LETTERS = 128  # of a text that say which conversation it belongs to
TOKENS = 32  # and of token ids


def conversation_key(prompt: Prompt) -> str:
    """Return what the requests of one conversation share: of a dialogue all up to the first message of a user.

    A text's first letters, or the first of token ids. It is a digest, so that no prompt gets into logs.
    """
    return blake2b(json.dumps(_beginning(prompt)).encode(), digest_size=16).hexdigest()


def _beginning(prompt: Prompt) -> object:
    if isinstance(prompt, str):
        return prompt[:LETTERS]
    beginning: list[object] = []
    for item in prompt:
        beginning.append(dict(item) if isinstance(item, Mapping) else int(item))
        if len(beginning) == TOKENS or (isinstance(item, Mapping) and item.get("role") == "user"):
            break
    return beginning


def ranked(key: str, replicas: Collection[str]) -> list[str]:
    """Return replicas in the order in which a conversation prefers them."""
    return sorted(replicas, key=lambda replica: blake2b(f"{key} {replica}".encode(), digest_size=8).digest())


def by_preference(key: str, loads: Mapping[str, int], slack: int) -> list[str]:
    """Return all replicas in the order in which a request of a conversation tries them.

    loads: requests under way, by replica. First come those with at most `slack` more than the least busy has, in the
    order of the conversation; then the others, those that exceed it least before.
    """
    least = min(loads.values(), default=0)
    return sorted(ranked(key, loads), key=lambda replica: max(0, loads[replica] - least - slack))
