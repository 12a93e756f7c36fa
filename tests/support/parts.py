"""Code of plugins that tests install: a drafter, a verifier and a target that misbehave as they are told."""

from __future__ import annotations

import textwrap

DRAFTER = """
import time
import torch
from orthrus import Draft, hookimpl


class Odd:
    name = "odd"
    needs = frozenset()
    learns = False

    def start(self, context, *rows):
        self.cycle = 0

    def propose(self, context, chance):
{body}

    def observe(self, step):
        self.cycle += 1


@hookimpl
def register_drafters(register):
    register("odd", lambda options, parts: Odd())
"""

LENIENT = """
from orthrus import Verdict, hookimpl


class Lenient:
    greedy = True

    def verify(self, context, draft, logits, chance):
        accepted = draft.lengths  # whatever the drafter says
        return Verdict(accepted, logits.argmax(-1).gather(1, accepted[:, None])[:, 0])


@hookimpl
def register_verifiers(register):
    register("lenient", lambda options, parts: Lenient())
"""

FORGETFUL = """
from orthrus import hookimpl
from orthrus.testing import Letters, TableTarget
import torch


class Forgetful(TableTarget):
    def score(self, context, draft):
        logits = super().score(context, draft)
        return logits.roll(1, dims=-1) if context.cycle == 3 else logits  # wrong for one cycle


def make(options, parts):
    generator = torch.Generator().manual_seed(0)
    table = torch.randn((4, 4, 4), generator=generator, dtype=torch.float64)
    return Forgetful(table, parts.cache, tokenizer=Letters("abcd"))


@hookimpl
def register_targets(register):
    register("forgetful", make)
"""


def drafter(body: str) -> str:
    """Return the code of a plugin with the drafter `odd`, whose `propose(self, context, chance)` has this body."""
    return DRAFTER.format(body=textwrap.indent(textwrap.dedent(body).strip(), " " * 8))
