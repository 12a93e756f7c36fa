"""Parts that take trees of drafts, each broken in one way that was seen in the field, or that the design warns of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import orthrus.sampling.logits_processor as processor_module
from orthrus import AttentionCapabilities, Chance, Context, Draft, MaskDescription, Step, Verdict
from orthrus.reference.verifiers import chosen
from orthrus.taps import TapDelivery
from orthrus.testing import PlainCache, PlainConsensus, PlainCoupled, PlainRejection, TableTarget, ViewTableTarget
from orthrus.testing.doubles.trees import DrawingTrees
from orthrus_verifiers.rejection import Rejection
from support.bug import Bug, replaced
from support.bugs_of_attention import Written
from support.bugs_of_taps import Tapping
from support.bugs_of_targets import over
from support.bugs_of_the_loop import VIEW, Knowing


class WrittenTrees(Written):
    """Honest: attention in float64 that takes trees, in steps of which each is broken below."""

    capabilities = AttentionCapabilities(kinds=frozenset({"causal", "block", "tree"}), softcap=True, sinks=True)

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        if mask.kind != "tree":
            return super().prepare(mask, window, dtype)
        assert mask.paths is not None
        rows, columns = mask.positions.shape
        seen = torch.zeros(rows, columns, mask.extent, dtype=torch.bool)
        places = torch.arange(mask.extent).repeat(rows, 1)  # where in the text the key of each slot stands
        for row, length in enumerate(mask.lengths.tolist()):
            seen[row, :, :length] = True
            seen[row, :, length : length + columns] = self.own(mask)[row]
            places[row, length : length + columns] = self.places(mask)[row]
        oldest = self.places(mask)[..., None] - (mask.extent + 99 if window is None else window)
        return seen & (places[:, None] > oldest)

    def own(self, mask: MaskDescription) -> Tensor:
        assert mask.paths is not None
        return mask.paths

    def places(self, mask: MaskDescription) -> Tensor:
        return mask.positions


class SiblingsSeen(WrittenTrees):
    """Let a token of a tree see all that come before it in the draft, as in a chain."""

    def own(self, mask: MaskDescription) -> Tensor:
        return torch.ones_like(super().own(mask)).tril()


class WindowBySlot(WrittenTrees):
    """Count a window's keys by the slots in which they lie: a depth that is off."""

    def places(self, mask: MaskDescription) -> Tensor:
        return mask.lengths[:, None] + torch.arange(mask.positions.shape[1])


class AsAChain(PlainConsensus):
    """Take the tokens of a tree for a chain."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        verdict = super().verify(context, replace(draft, parents=None), logits, chance)
        return replace(verdict, last=verdict.accepted - 1)


class OrphansKept(PlainConsensus):
    """Keep a token that is right after its parent, whether the parent was right or not."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        paths = draft.paths
        if paths is None:
            return super().verify(context, draft, logits, chance)
        choices = logits.argmax(-1)
        right = draft.tokens == choices.gather(1, paths.before[:, 1:])
        right &= torch.arange(paths.width - 1) < draft.lengths[:, None]
        depths = torch.where(right, paths.depths[:, 1:], 0)
        accepted, last = depths.max(1)
        last = torch.where(accepted > 0, last, -1)
        return Verdict(accepted, choices.gather(1, (last + 1)[:, None])[:, 0], last)


class DepthForIndex(PlainConsensus):
    """Say how deep the last token is, and not which it is."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        verdict = super().verify(context, draft, logits, chance)
        return verdict if verdict.last is None else replace(verdict, last=verdict.accepted - 1)


class NoiseByColumn(PlainCoupled):
    """Key the noise by a token's place in the draft, and not by its depth."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        noise = chance.gumbel(context.keys, context.positions(logits.shape[1]), logits.shape[-1])
        return chosen(torch.where(context.settings.draws, logits + noise, logits), draft)


class SiblingsOfTheWhole(Rejection):
    """Try every child with all of the target's distribution: nothing is left over from the one before."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        if draft.paths is None or draft.probabilities is None:
            return super().verify(context, draft, logits, chance)
        wanted = logits.softmax(-1)
        rows = torch.arange(len(logits))
        place, goes_on = torch.zeros_like(draft.lengths), torch.ones_like(draft.lengths, dtype=torch.bool)
        for index in range(draft.tokens.shape[1]):
            token = draft.tokens[:, index]
            p, q = wanted[rows, place, token], draft.probabilities[rows, index, token]
            chances = (p / q).clamp(max=1) * (draft.paths.before[:, index + 1] == place) * (index < draft.lengths)
            taken = chance.categorical(torch.stack([1 - chances, chances], 1)).bool()
            place = torch.where(taken & goes_on, index + 1, place)
        return Verdict(draft.paths.depths[rows, place], chance.categorical(wanted[rows, place]), place - 1)


class MovesFromTheEnd(PlainCache):
    """Move an accepted path token by token, the last one first, over what is still to be moved."""

    def move_slots(self, first: Tensor, order: Tensor) -> None:
        for index in reversed(range(order.shape[1])):
            one = torch.arange(order.shape[1]).repeat(len(order), 1)
            one[:, index] = order[:, index]
            super().move_slots(first, one)


class MovesOneLayer(PlainCache):
    """Move the keys of the first layer alone."""

    def move_slots(self, first: Tensor, order: Tensor) -> None:
        others = {key: pair for key, pair in self._held.items() if key[0]}
        super().move_slots(first, order)
        self._held |= others


class MovesKeys(PlainCache):
    """Move the keys, and leave the values."""

    def move_slots(self, first: Tensor, order: Tensor) -> None:
        before = dict(self._held)
        super().move_slots(first, order)
        for key, pair in self._held.items():
            if key in before:
                self._held[key] = torch.stack([pair[0], before[key][1]])


class SeesTheOneBefore(TableTarget):
    """Let a token of a tree follow the one before it in the draft: a sibling is seen."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        return super().score(context, replace(draft, parents=None))


class DepthOff(TableTarget):
    """Take what is deeper than the first tokens for one token deeper: the parent is passed over."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        if draft.parents is None:
            return super().score(context, draft)
        above = torch.cat([torch.full_like(draft.parents[:, :1], -1), draft.parents], 1)
        return super().score(context, replace(draft, parents=above.gather(1, draft.parents + 1)))


class StaleBranch(TableTarget):
    """Leave the keys of a tree where they are: what came first in the draft is taken for what was accepted."""

    def keep_path(self, context: Context, order: Tensor) -> None: ...


class WrongPath(TableTarget):
    """Keep the path of the first row in all rows."""

    def keep_path(self, context: Context, order: Tensor) -> None:
        super().keep_path(context, order[:1].expand_as(order))


class LaterParents(DrawingTrees):
    """Give parents that come later."""

    def __init__(self, target: Any) -> None:
        super().__init__(torch.full((target.vocabulary_size,) * 2, 1 / target.vocabulary_size), (-1, -1, 0))

    def propose(self, context: Context, chance: Chance) -> Draft:
        draft = super().propose(context, chance)
        if draft.parents is None:
            return draft
        return replace(draft, parents=draft.parents + 2)


class KnowingTrees(Knowing):
    """Honest: draft a right and a wrong token for each place through a view, launched while the host reads."""

    drafts_trees = True

    def __init__(self, target: ViewTableTarget) -> None:
        super().__init__(target)
        self.launched: tuple[int, Draft] | None = None

    def start(self, context: Context, rows: Any) -> None:
        self.launched = None

    def propose(self, context: Context, chance: Chance) -> Draft:
        launched, self.launched = self.launched, None
        if launched is None or launched[0] != context.cycle:
            return self.drafted(context)
        return replace(launched[1], lengths=torch.minimum(launched[1].lengths, context.room))

    def ahead(self, context: Context, chance: Chance) -> bool:
        self.launched = context.cycle + 1, self.drafted(context)
        return True

    def drafted(self, context: Context) -> Draft:
        width = min(3, context.max_room)
        if width < 1:
            return context.empty_draft()
        places = context.lengths[:, None] - 1 + torch.arange(width)
        logits = self.target.forward(context, context.anchors[:, None].expand(-1, width), places, view=VIEW)
        right = logits.argmax(-1)  # [B, n], of which each second token of the tree is one
        tokens = torch.stack([(right + 1) % context.vocabulary_size, right], -1).flatten(1)
        parents = torch.arange(width).repeat_interleave(2) * 2 - 1
        return Draft(tokens, context.room.clamp(max=2 * width), parents=parents.repeat(len(tokens), 1), passes=1)


class TappingTrees(Tapping):
    """Honest: beside each token that the hidden states give, draft another one first."""

    drafts_trees = True

    def propose(self, context: Context, chance: Chance) -> Draft:
        right = self.draft(context)  # [B, n], of which each second token of the tree is one
        tokens = torch.stack([(right + 1) % context.vocabulary_size, right], -1).flatten(1)
        parents = torch.arange(right.shape[1]).repeat_interleave(2) * 2 - 1
        lengths = context.room.clamp(max=tokens.shape[1])
        return Draft(tokens, lengths, parents=parents.repeat(len(tokens), 1))


def not_followed(self: TapDelivery, along: Any) -> None:
    """Leave a tree's states in the order of the draft."""


def siblings_counted(context: Context, draft: Draft, logits: Tensor) -> Tensor:
    """Count what comes before a place in the draft, whatever path it is on."""
    return penalized(context, replace(draft, parents=None), logits)


def moved_late(self: TableTarget, context: Context, order: Tensor) -> None:
    """Note which keys are to be moved, and move them when the step is kept."""
    self.late = context.lengths, order  # type: ignore[attr-defined]


def kept_late(self: TableTarget, step: Step) -> None:
    """Move the keys that were noted: the next draft has been launched by now."""
    if (late := vars(self).pop("late", None)) is not None:
        self.cache.move_slots(*late)  # type: ignore[attr-defined]
    keep(self, step)


@contextmanager
def late_keys() -> Iterator[None]:
    """Move an accepted path's keys only when the step is kept, after the next draft was launched."""
    with replaced(TableTarget, "keep_path", moved_late)(), replaced(TableTarget, "keep", kept_late)():
        yield


penalized, keep = processor_module.penalized, TableTarget.keep

ATTENTION = [
    Bug("attention", "lets tokens of a tree see their siblings", "tokens_of_a_tree_see_their_paths", SiblingsSeen),
    Bug("attention", "counts a tree's window by slots", "tokens_of_a_tree_see_their_paths", WindowBySlot),
]
VERIFIERS = [
    Bug("verifier", "takes a tree for a chain", "keeps_the_longest_path", AsAChain),
    Bug("verifier", "keeps tokens whose parent was refused", "greedy_text_over_trees", OrphansKept),
    Bug("verifier", "says the depth of a tree's last token for its index", "keeps_the_longest_path", DepthForIndex),
    Bug("verifier", "keys a tree's noise by place, not by depth", "coupled_text_over_trees", NoiseByColumn),
    Bug(
        "verifier",
        "tries each sibling with the target's whole distribution",
        "exact_with_drawn_trees",
        SiblingsOfTheWhole,
    ),
]
CACHES = [
    Bug("cache", "moves an accepted path over what is still to be moved", "accepted_paths_are_moved", MovesFromTheEnd),
    Bug("cache", "moves an accepted path in the first layer only", "accepted_paths_are_moved", MovesOneLayer),
    Bug("cache", "moves an accepted path's keys, and not its values", "accepted_paths_are_moved", MovesKeys),
]
TARGETS = [
    Bug("target", "lets a token see its sibling", "trees_are_scored_along_their_paths", over(SeesTheOneBefore)),
    Bug("target", "is off by one in a tree's depth", "trees_are_scored_along_their_paths", over(DepthOff)),
    Bug("target", "keeps a stale branch's keys", "trees_are_scored_along_their_paths", over(StaleBranch)),
    Bug("target", "keeps another row's path", "texts_over_trees", over(WrongPath)),
]
DRAFTERS = [Bug("drafter", "lets tokens of a tree follow later ones", "parents_come_first", LaterParents)]
LOOP = [
    Bug(
        "verifier",
        "the loop's penalties see a tree's siblings",
        "exact_with_chosen_trees",
        PlainRejection,
        replaced(processor_module, "penalized", siblings_counted),
    ),
    Bug(
        "drafter",
        "the loop hands over the hidden states of a tree's first branch",
        "taps_of_rejected_tokens_are_forgotten",
        TappingTrees,
        replaced(TapDelivery, "follow", not_followed),
    ),
    Bug(
        "drafter",
        "the loop moves an accepted path after the next draft is launched",
        "greedy_text",
        KnowingTrees,
        late_keys,
    ),
]
