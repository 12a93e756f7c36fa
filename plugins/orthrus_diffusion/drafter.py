"""The drafter `diffusion`: the target's diffusion view proposes a block in one pass. B: rows, K: size of a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from orthrus import (
    AutoBlock,
    AutoTree,
    Chance,
    Context,
    Draft,
    DraftShape,
    InputError,
    RowState,
    Step,
    run_draft_pass,
)
from orthrus.draft_memory import is_short, largest_that_runs, smaller, too_large
from orthrus.draft_states import DraftStatesTarget
from orthrus.files import fingerprint_weights
from orthrus.optional import DraftingTarget, ViewTarget
from orthrus.ranks.together import together_of
from orthrus.sampling import add_noise, draw_draft, warp_draft
from orthrus_diffusion.block import MaskedBlock, SuccessorBlock
from orthrus_diffusion.chain import draw_chain
from orthrus_diffusion.following_tree import draw_tree, likeliest_chain
from orthrus_diffusion.successor import SuccessorHead
from orthrus_diffusion.transitions import Successors
from orthrus_diffusion.tree import best_first

VIEW = "diffusion"  # what the view that came with a target is called
LAST_SIZES = (7, 15, 31, 63, 127)  # of larger trees, where an answer has no room for them


class Diffusion:
    """Fill a block of masks after each row's anchor through a view of the target (the paper's section 3).

    The queries of the block see the committed keys before the anchor and all keys of the block, both ways. On a GPU the
    next block is launched while the host still waits for what a cycle committed: it is made on the device alone. With
    `auto` its size is then chosen by what was known a cycle before.
    """

    name = "diffusion"
    needs: frozenset[str] = frozenset({"views"})
    learns = False  # with `auto`, how much of its drafts was accepted
    moves_rows = True

    def __init__(
        self,
        target: ViewTarget,
        block: int,
        mask_token_id: int,
        view: str = VIEW,
        *,
        auto: bool = False,
        tree: int | None = None,
        early: bool | None = None,
        successor: SuccessorHead | None = None,
        notify: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Draft blocks of a size, or with `auto` of any that it chooses up to it, through an attached view.

        tree: how many tokens of the likeliest continuations are drafted, or with `auto` the most that it may choose;
        None: the likeliest token of each place.
        early: whether to launch the next block before the host knows what it follows; None: on a CUDA device.
        successor: the view's head by which each draft sees the one before it; None: they do not see each other.
        """
        self._target = target
        self.block = block
        self.mask_token_id = mask_token_id
        self.view = view
        self.drafts_trees = tree is not None
        self._successors = (
            Successors(successor, target) if successor and isinstance(target, DraftStatesTarget) else None
        )
        launches = target.device.type == "cuda" if early is None else early
        self._early = launches and isinstance(target, DraftingTarget)
        self.learns, self.reads_trees = auto, auto and self.drafts_trees
        self._shape = DraftShape(block - 1, tree or 0)  # of the next draft; with `auto`, what was chosen last
        self._auto = self._chooser(tree, notify) if auto else None
        self._next: tuple[Context, int, Draft] | None = None  # launched early, for this cycle of this context
        self._launched: torch.cuda.Event | None = None

    @property
    def described(self) -> str:
        """What drafts, for whom passes of another drafter cost something else."""
        successors = self._successors
        return "diffusion" if successors is None else f"diffusion, successor head of rank {successors.head.rank}"

    def _chooser(self, tree: int | None, notify: Callable[[str], None]) -> AutoBlock | AutoTree:
        name = self.described
        if tree is None:
            name = name if self._early else f"{name}, read first"
        drafting = name, self.measured
        if tree is None:
            return AutoBlock(self._target, self.block - 1, drafting=drafting, notify=notify)
        return AutoTree(self._target, self.block - 1, tree, drafting=drafting, notify=notify)

    @property
    def successor(self) -> SuccessorHead | None:
        """The head by which each draft sees the one before it; None: they do not see each other."""
        return self._successors.head if self._successors else None

    @property
    def shape(self) -> DraftShape:
        """What is drafted next; with `auto`, what was chosen last."""
        return self._shape

    @property
    def launched(self) -> bool:
        """Whether a block is launched for a cycle that has not come yet."""
        return self._next is not None

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Forget what was launched early, and tell who chooses; all else of a row is in the target's cache."""
        self._next = None
        self._wait()
        if self._auto:
            self._auto.start(rows)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return tokens for the masks, as many as a block and the row's room take: the likeliest, or drawn ones."""
        early, self._next = self._next, None
        self._wait()
        if early and early[:2] == (context, context.cycle):
            draft = early[2]
            if self._auto:  # it is chosen for the next block: this one was launched before
                self._take(context, draft)
                self._shape = _shape(self._auto.choose_next(context))
            return replace(draft, lengths=torch.minimum(draft.lengths, context.room))  # a stop string may have come
        if self._auto is None:
            return self._draft(context, self._shape, chance)
        self._shape = _shape(self._auto.choose(context))
        if isinstance(self._auto, AutoBlock) and self._cuts(context, self._auto):
            return self._sure_draft(context, self._shape.drafts, self._auto)
        return self._draft(context, self._shape, chance)

    def _take(self, context: Context, draft: Draft) -> None:
        """Tell who chooses that this was drafted."""
        if isinstance(self._auto, AutoTree):
            self._auto.take(context, self._shape)
        elif self._auto:
            self._auto.take(context, draft.tokens.shape[1])

    def _cuts(self, context: Context, auto: AutoBlock) -> bool:
        """Tell whether drafts are cut where the view is unsure: they are read first, so nothing may be launched early.

        Tokens that are drawn are not: how many are scored would depend on which were.
        """
        return not (self._early or context.settings.draws) and auto.keeps(context)

    def _sure_draft(self, context: Context, drafts: int, auto: AutoBlock) -> Draft:
        """Return as many of a block's likeliest tokens as are worth scoring."""
        likeliest = self._likeliest(context, drafts)
        if likeliest is None:
            return context.empty_draft()
        tokens, probabilities = likeliest
        kept = auto.keep(context, probabilities.tolist(), tokens.shape[1])
        return Draft(tokens[:, :kept], context.room.clamp(max=kept), passes=1)

    def _likeliest(self, context: Context, drafts: int) -> tuple[Tensor, Tensor] | None:
        """Return a block's likeliest tokens and their probabilities [B, n]; None: no row has room for any."""
        width = min(drafts, context.max_room)
        if not width:
            return None
        if self._successors is not None:
            block = self._block(width + 1, context.min_room < width, draws=True, nodes=0)
            result = run_draft_pass(self._target, context, block, view=self.view, kind="block")
            return likeliest_chain(*SuccessorBlock.parts(result, self._target.vocabulary_size))
        rows = RowState(context.lengths, context.anchors, context.room)
        whole = MaskedBlock(width, self.mask_token_id, context.min_room < width, choose=False, whole=True)
        tokens, positions = whole.tokens(rows), whole.positions(rows)
        logits = whole.result(
            rows, self._target.forward(context, tokens, positions, view=self.view, kind="block")
        )  # [B, n, V]
        best = logits.max(-1)
        return best.indices, (best.values - logits.logsumexp(-1)).exp()

    def _wait(self) -> None:
        """Make the current stream wait for the early block; the caller may have switched streams since."""
        if self._launched is not None:
            torch.cuda.current_stream(self._target.device).wait_event(self._launched)
            self._launched = None

    def ahead(self, context: Context, chance: Chance) -> bool:
        """Launch the next cycle's block, where it can need no more slots than decoding and is not drafted again.

        Return whether it was launched.
        """
        refills = context.waiting and len(context.rows) > 1  # a block would be launched again after a prefill
        fits = context.longest + self._shape.drafts + 1 <= context.tokens.shape[1]
        if self._early and self._shape.drafts and fits and not refills:
            self._launch(context, self._draft(context, self._shape, chance))
        return self.launched

    def _launch(self, context: Context, draft: Draft) -> None:
        """Keep the next cycle's draft, which the device may still be making."""
        self._next = context, context.cycle + 1, draft
        if context.device.type == "cuda":
            self._launched = torch.cuda.current_stream(context.device).record_event()

    def note_choices(self, chooses: bool) -> None:
        """Tell who chooses which passes to measure."""
        if self._auto:
            self._auto.note_choices(chooses)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Forget what was launched early, for the rows as they were, and tell who chooses."""
        self._next = None
        self._wait()
        if self._auto:
            self._auto.move_rows(sources)

    def measured(self, context: Context, choice: int | DraftShape) -> object:
        """Draft as `propose` does, drawing if it draws, for those who measure."""
        shape = _shape(choice)
        if isinstance(self._auto, AutoBlock) and self._cuts(context, self._auto):
            return self._likeliest(context, shape.drafts)
        return self._draft(context, shape, Chance(0, context.device))

    def _draft(self, context: Context, shape: DraftShape, chance: Chance) -> Draft:
        """Return a draft; raise InputError if memory does not hold its pass, with the block that it holds."""
        try:
            return self._drafted(context, shape, chance)
        except (RuntimeError, InputError) as error:
            if not is_short(error):
                raise
        fitting = None
        if not together_of(self._target).several:  # other processes would not run these passes, too
            fitting = largest_that_runs(
                smaller(shape.drafts), lambda drafts: self._drafted(context, DraftShape(drafts, shape.nodes), chance)
            )
        raise too_large(shape.drafts, len(context.rows), fitting, f"drafter.block={(fitting or 0) + 1}")

    def _drafted(self, context: Context, shape: DraftShape, chance: Chance) -> Draft:
        width = min(shape.drafts, context.max_room) + 1
        if width < 2:
            return context.empty_draft()
        draws = context.settings.draws
        spare = context.min_room < width - 1
        nodes = fitting_nodes(shape.nodes, context)
        block = self._block(width, spare, draws, nodes)
        result = run_draft_pass(self._target, context, block, view=self.view, kind="block")
        if nodes:
            return replace(self._tree(context, block, result, chance), depth=width - 1)
        lengths = context.room.clamp(max=width - 1)  # [B] drafts
        if draws and isinstance(block, SuccessorBlock):
            return draw_chain(context, chance, *block.parts(result, self._target.vocabulary_size), lengths)
        if draws:
            return draw_draft(context, chance, result, lengths)  # of logits [B, width - 1, V]
        return Draft(result, lengths, passes=1)  # tokens [B, width - 1]

    def _block(self, width: int, spare: bool, draws: bool, nodes: int) -> MaskedBlock:
        settings = width, self.mask_token_id, spare, not draws, nodes
        if self._successors is None:
            return MaskedBlock(*settings)
        return SuccessorBlock(*settings, successors=self._successors)

    def _tree(self, context: Context, block: MaskedBlock, result: Tensor, chance: Chance) -> Draft:
        """Return the tree of a block; where tokens are drawn it is made here, of logits and a coupled verifier's noise.

        The tokens are then chosen as far as a verifier draws anything else: they have no probabilities.
        """
        if context.settings.draws and isinstance(block, SuccessorBlock):
            parts = block.parts(result, self._target.vocabulary_size)
            result = draw_tree(context, chance, *parts, block.nodes)
        elif context.settings.draws:
            noisy = add_noise(context, warp_draft(context, result), chance)  # [B, width - 1, V]
            result = best_first(noisy, context.room, block.nodes)
        nodes = result.shape[1] // 2
        tokens, parents, lengths = result[:, :nodes], result[:, nodes : 2 * nodes], result[:, -1]
        return Draft(tokens, torch.minimum(lengths, context.room), parents=parents, passes=1)

    def observe(self, step: Step) -> None:
        """Tell who chooses."""
        if self._auto:
            self._auto.observe(step)

    def fingerprint(self) -> str:
        """Return the fingerprint of the weights of the view and its head."""
        head = self.successor.weights() if self.successor else {}
        return fingerprint_weights({**self._target.view_weights(self.view), **head}.items())

    def report(self) -> Mapping[str, Any]:
        """Return what `auto` chose."""
        return self._auto.report() if self._auto else {}


def fitting_nodes(nodes: int, context: Context) -> int:
    """Return how many tokens a tree of so many has where an answer ends: one of few sizes, as each is a graph."""
    room = max(row.room for row in context.rows) - context.unread  # of the row that has most, after this step
    if nodes <= max(room, LAST_SIZES[0]):
        return nodes
    return max(size for size in LAST_SIZES if size <= max(room, LAST_SIZES[0]))


def _shape(choice: int | DraftShape) -> DraftShape:
    return DraftShape(choice) if isinstance(choice, int) else choice
