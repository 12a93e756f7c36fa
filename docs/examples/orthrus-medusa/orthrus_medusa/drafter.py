"""Medusa heads: several tokens at once, guessed from the state that led to the newest one. B: rows, K: heads."""

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Parts, Step, TappedStates
from orthrus.drafter_models.fit import tapped_target
from orthrus.drafter_models.source import head_bytes, share_of_pass
from orthrus.optional import TappedTarget
from orthrus_medusa.heads import blocked, load_blocks
from orthrus_medusa.options import Options


class MedusaDrafter:
    """Head k says which token is k places after the newest one: a residual block before the target's own head."""

    name = "medusa"
    needs: frozenset[str] = frozenset({"hidden_states"})  # of a target
    learns = False  # whether it keeps anything from one prompt to the next
    moves_rows = True
    taps = ("final",)  # the state after the target's last norm

    def __init__(self, target: TappedTarget, blocks: Tensor) -> None:  # [K, h, h]
        self.target, self.blocks = target, blocks
        self.passes = share_of_pass(blocks.nbytes + head_bytes(target, blocks.dtype), target)
        self.states = blocks[0, :0]  # [B, h]: of the token before each row's newest

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Nothing is to be forgotten: what a new prompt led to has been read."""

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        """Keep each row's last state; in a chunk of prompts a row may have none."""
        if len(self.states) != len(context.rows):  # another decoding begins
            self.states = self.states.new_zeros(len(context.rows), self.target.hidden_size)
        every = torch.arange(len(tapped.states), device=self.states.device)
        rows, last = every if tapped.rows is None else tapped.rows, (tapped.counts - 1).clamp(min=0)
        newest = tapped.states[every, last].to(self.states.dtype)
        self.states[rows] = torch.where(tapped.counts[:, None] > 0, newest, self.states[rows])

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take the states along; -1 is a row that nobody had: the zeros at the end."""
        self.states = torch.nn.functional.pad(self.states, (0, 0, 0, 1))[list(sources)]

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return every head's likeliest token, as many as a row has room for."""
        if not (width := min(len(self.blocks), context.max_room)):
            return context.empty_draft()
        tokens = self.target.head(blocked(self.states, self.blocks[:width])).argmax(-1)  # [B, K]
        return Draft(tokens, context.room.clamp(max=width), passes=self.passes)

    def observe(self, step: Step) -> None:
        """What it needs came with the taps."""


def make(options: Options, parts: Parts) -> MedusaDrafter:
    """Return the drafter that a config asks for."""
    target = tapped_target(parts.target, "medusa")
    return MedusaDrafter(target, load_blocks(options.source, parts, target))
