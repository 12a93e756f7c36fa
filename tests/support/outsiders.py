"""A drafter that somebody else wrote: it knows what a table will say, and may be set so that it says something else."""

from __future__ import annotations

CODE = '''
from dataclasses import dataclass

import torch

import orthrus


@dataclass(frozen=True)
class KnowingOptions:
    """Options of the drafter."""

    turned: int = orthrus.option(0, help="what is added to each token")
    gone: bool = orthrus.option(False, help="refuse to be made")


class Knowing:
    """Draft three tokens of the table's own text, each turned by a number."""

    name = "knowing"
    needs = frozenset()
    learns = False

    def __init__(self, options, target):
        self.turned, self.target = options.turned, target

    def start(self, context, rows):
        pass

    def propose(self, context, chance):
        width = min(3, context.max_room)
        drafts = [self.says([*row.prompt, *row.output], width) for row in context.rows]
        tokens = (torch.tensor(drafts) + self.turned) % context.vocabulary_size
        return orthrus.Draft(tokens.reshape(len(drafts), width), context.room.clamp(max=width))

    def says(self, text, width):
        for _ in range(width):
            text.append(int(self.target.logits(text, 1)[0].argmax()))
        return text[len(text) - width :]

    def observe(self, step):
        pass

    def trials(self):
        for turned in (self.turned - 1, self.turned + 1):
            yield orthrus.Trial(f"turned by {turned}", "the drafter turns too far", {"turned": turned})
        yield orthrus.Trial("gone", "the drafter is gone", {"gone": True})
        yield orthrus.Trial("misspelt", "the drafter cannot spell", {"trned": 0})


def make(options, parts):
    if options.gone:
        raise orthrus.InputError("drafter.gone: nobody is there")
    return Knowing(options, parts.target)


@orthrus.hookimpl
def register_drafters(register):
    register("knowing", make, options=KnowingOptions)
'''
CONFIG = """
target: {name: table, alphabet: "abcdefgh", order: 2, seed: 0}
cache: {name: dynamic}
drafter: {name: knowing, turned: 1}
verifier: {name: consensus}
stop: {max_new_tokens: 24}
"""
