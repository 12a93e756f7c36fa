"""Drafters, each broken in one way that was seen in the field, or that the design warns of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy
import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Step
from orthrus.testing.doubles.drafters import Drawing, some_q
from support.bug import Bug

WIDTH = 3


class Cycling:
    """Honest: propose that the row goes on as it began to. What is broken below begins here."""

    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(self, target: Any = None) -> None:
        self.target = target

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self.context = context
        self.texts = {**getattr(self, "texts", {}), **{row: self.text(context, row) for row in rows}}

    def propose(self, context: Context, chance: Chance) -> Draft:
        self.before(context, chance)
        return self.after(context, self.draft(context))

    def before(self, context: Context, chance: Chance) -> None:
        """Do nothing; what is broken does it here, before it drafts."""

    def after(self, context: Context, draft: Draft) -> Draft:
        """Return what was drafted; what is broken changes it here."""
        return draft

    def draft(self, context: Context) -> Draft:
        drafts = [self.row(self.texts[row], min(WIDTH, state.room)) for row, state in enumerate(context.rows)]
        width = max(len(tokens) for tokens in drafts)
        padded = [tokens + [0] * (width - len(tokens)) for tokens in drafts]
        tokens = torch.tensor(padded, dtype=torch.int64).reshape(len(drafts), width)
        return Draft(tokens, torch.tensor([len(tokens) for tokens in drafts]))

    def observe(self, step: Step) -> None:
        for row, tokens in enumerate(step.committed):
            self.texts[row] += tokens

    def text(self, context: Context, row: int) -> list[int]:
        return [*context.rows[row].prompt, *context.rows[row].output]

    def row(self, text: list[int], length: int) -> list[int]:
        """Return what followed the last token when it came before, or the token itself."""
        before = [index for index, token in enumerate(text[:-1]) if token == text[-1]]
        following = text[before[-1] + 1 :] if before else text[-1:]
        return (following * length)[:length]


class Stale(Cycling):
    def after(self, context: Context, draft: Draft) -> Draft:
        for row, tokens in enumerate(draft.tokens.tolist()):
            self.texts[row] += tokens[: int(draft.lengths[row])]  # as if all of it were accepted
        return draft


class KnowsBetter(Cycling):
    """Say the lengths that it meant, whatever was cut since."""

    def after(self, context: Context, draft: Draft) -> Draft:
        return replace(draft, host_lengths=tuple(WIDTH for _ in context.rows))


class CountsPositions(Cycling):
    """Keep its own position, which moves on by the whole draft whether it was accepted or not."""

    def start(self, context: Context, rows: Sequence[int]) -> None:
        super().start(context, rows)
        self.places = {**getattr(self, "places", {}), **{row: len(self.texts[row]) for row in rows}}

    def after(self, context: Context, draft: Draft) -> Draft:
        tokens = (draft.tokens + torch.tensor([[self.places[row]] for row in range(len(draft.tokens))])) % 3
        for row, length in enumerate(draft.lengths.tolist()):
            self.places[row] += length + 1
        return Draft(tokens, draft.lengths)


class Adapting(Cycling):
    """Draft less after a rejection, and write that into an option that is never set back."""

    length = WIDTH

    def row(self, text: list[int], length: int) -> list[int]:
        return super().row(text, min(length, self.length))

    def observe(self, step: Step) -> None:
        super().observe(step)
        self.length = max(1, min(WIDTH, max(step.accepted) + 1))


class Remembering(Cycling):
    """Look up what followed the last token in any prompt before."""

    def start(self, context: Context, rows: Sequence[int]) -> None:
        super().start(context, rows)
        self.seen = getattr(self, "seen", []) + [token for row in rows for token in self.texts[row]]

    def row(self, text: list[int], length: int) -> list[int]:
        return super().row([*self.seen, *text], length)


class Sharing(Cycling):
    """Keep its texts in the class."""

    shared: ClassVar[dict[int, list[int]]] = {}

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self.texts = self.shared
        super().start(context, rows)
        self.shared.update(self.texts)
        self.texts = self.shared


class CompactingRows(Cycling):
    """Number the rows that go on anew, once one has ended."""

    def draft(self, context: Context) -> Draft:
        going = [row for row, state in enumerate(context.rows) if state.finish_reason is None]
        shifted = {index: self.texts[row] for index, row in enumerate(going)}
        kept, self.texts = self.texts, {**self.texts, **shifted}
        draft = super().draft(context)
        self.texts = kept
        return draft


class OwnDice(Cycling):
    def row(self, text: list[int], length: int) -> list[int]:
        return torch.randint(0, 2, (length,)).tolist()


class Seeding(Cycling):
    def row(self, text: list[int], length: int) -> list[int]:
        torch.manual_seed(0)
        return super().row(text, length)


class ReadsRowByRow(Cycling):
    """Take the text from the device, a row at a time."""

    def before(self, context: Context, chance: Chance) -> None:
        lengths = [int(length) for length in context.lengths]
        self.texts = {row: context.tokens[row, :length].tolist() for row, length in enumerate(lengths)}


class NoLimit(Cycling):
    def row(self, text: list[int], length: int) -> list[int]:
        return super().row(text, WIDTH)


class DraftsForTheEnded(Cycling):
    def after(self, context: Context, draft: Draft) -> Draft:
        return Draft(draft.tokens, draft.lengths.clamp(min=min(1, draft.tokens.shape[1])))


class TooManyTokens(Cycling):
    def row(self, text: list[int], length: int) -> list[int]:
        return [99] * length  # the mask, say


class HalfWidth(Cycling):
    def after(self, context: Context, draft: Draft) -> Draft:
        return Draft(draft.tokens.int(), draft.lengths)


class RaisingWhenEnded(Cycling):
    def before(self, context: Context, chance: Chance) -> None:
        if any(row.finish_reason for row in context.rows):
            raise IndexError("list index out of range")


class MovesTheAnchor(Cycling):
    def after(self, context: Context, draft: Draft) -> Draft:
        context.tokens.index_fill_(1, context.lengths[:1], 1)  # its draft, beyond the row's end
        return draft


class WritesCommitted(Cycling):
    needs = frozenset({"views"})

    def before(self, context: Context, chance: Chance) -> None:
        before = (context.lengths - 2).clamp(min=0)[:, None]
        self.target.forward(context, context.anchors[:, None], before, view=None, kind="causal")


class SilentLearner(Cycling):
    learns: Any = "sometimes"


class Claiming(Drawing):
    """Draw two tokens, and report what each was drawn from. What is broken below chooses or reports otherwise."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        before, tokens, reported = context.anchors, [], []
        for _ in range(min(2, context.max_room)):
            q = self._q[before]
            tokens.append(before := self.choose(context, q, chance))
            reported.append(self.report(q, before))
        if not tokens:
            return context.empty_draft()
        return Draft(torch.stack(tokens, 1), context.room.clamp(max=len(tokens)), torch.stack(reported, 1))

    def choose(self, context: Context, q: Tensor, chance: Chance) -> Tensor:
        return chance.categorical(q)

    def report(self, q: Tensor, tokens: Tensor) -> Tensor:
        return q


class Greedily(Claiming):
    """Choose the likeliest token, and report the distribution that it was not drawn from."""

    def choose(self, context: Context, q: Tensor, chance: Chance) -> Tensor:
        return q.argmax(-1)


class Untruncated(Claiming):
    """Draw from the two likeliest, and report all of them."""

    def choose(self, context: Context, q: Tensor, chance: Chance) -> Tensor:
        return chance.categorical(_cut(q))


class Unnormalised(Untruncated):
    """Draw from the two likeliest, and report them without dividing by what they have together."""

    def report(self, q: Tensor, tokens: Tensor) -> Tensor:
        return _cut(q)


class MasslessTokens(Claiming):
    """Report the residual of the token that was drawn."""

    def report(self, q: Tensor, tokens: Tensor) -> Tensor:
        left = q.scatter(-1, tokens[:, None], 0.0)
        return left / left.sum(-1, keepdim=True)


class GreedilyLater(Claiming):
    """Draw the first draft of a row, and choose the later ones."""

    def choose(self, context: Context, q: Tensor, chance: Chance) -> Tensor:
        first = context.lengths == context.prompt_lengths + 1
        return torch.where(first, chance.categorical(q), q.argmax(-1))


class Reseeds(Cycling):
    def before(self, context: Context, chance: Chance) -> None:
        chance.seed += 1


class Ahead(Cycling):
    """Honest: draft ahead what was committed last. What is broken below drafts ahead."""

    def ahead(self, context: Context, chance: Chance) -> None:
        self.launched = self.launch(context)

    def launch(self, context: Context) -> Tensor:
        return context.anchors[:, None].expand(-1, WIDTH).clone()

    def start(self, context: Context, rows: Sequence[int]) -> None:
        super().start(context, rows)
        self.launched = None

    def propose(self, context: Context, chance: Chance) -> Draft:
        tokens = self.launch(context) if self.launched is None else self.launched
        width = min(WIDTH, context.max_room)
        return Draft(tokens[:, :width], context.room.clamp(max=width))


class AheadOfOthers(Ahead):
    def ahead(self, context: Context, chance: Chance) -> None:
        self.launched = self.launch(context).flip(0)


class AheadByDice(Ahead):
    def ahead(self, context: Context, chance: Chance) -> None:
        self.launched = self.launch(context) + torch.zeros(1, dtype=torch.int64).random_(0, 1)  # always 0


class AheadOfTheContext(Ahead):
    def ahead(self, context: Context, chance: Chance) -> None:
        super().ahead(context, chance)
        context.prompt_lengths.add_(1)


class AheadInTheCache(Ahead):
    """Write the slot before the anchor's, which was accepted and is not yet kept."""

    def ahead(self, context: Context, chance: Chance) -> None:
        super().ahead(context, chance)
        slots = (context.lengths - 2).clamp(min=0)[:, None]
        self.target.cache.place(slots, int(slots.max()) + 1)
        states = torch.full((len(slots), 1, 1, 1), 1.0, dtype=torch.float64)
        self.target.cache.update(states, states, 0)


class Retrains(Cycling):
    """Change the model that it drafts for."""

    def __init__(self, target: Any = None) -> None:
        super().__init__(target)
        target.table.neg_()


class Revives(Cycling):
    def propose(self, context: Context, chance: Chance) -> Draft:
        context.rows[0].finish_reason = None
        return context.empty_draft()


class Cools(Cycling):
    def before(self, context: Context, chance: Chance) -> None:
        context.settings = dataclasses.replace(context.settings, top_k=torch.full((len(context.rows), 1, 1), 3))


class SeedsNumpy(Cycling):
    def before(self, context: Context, chance: Chance) -> None:
        numpy.random.seed(0)


class SavesPasses(Cycling):
    def after(self, context: Context, draft: Draft) -> Draft:
        return replace(draft, passes=-1)


class ClaimsByNoise(Cycling):
    """Draw evenly, by noise, and claim to have drawn token 0 nearly always."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        width, vocabulary = min(2, context.max_room), context.vocabulary_size
        if width == 0:
            return context.empty_draft()
        places = context.lengths[:, None] + torch.arange(width)
        tokens = self.noise(chance, context.keys, places, vocabulary).argmax(-1)
        return Draft(tokens, context.room.clamp(max=width), self.claimed(vocabulary).expand(*tokens.shape, -1))

    def noise(self, chance: Chance, keys: Tensor, places: Tensor, vocabulary: int) -> Tensor:
        return chance.gumbel(keys, places, vocabulary)

    def claimed(self, vocabulary: int) -> Tensor:
        claimed = torch.full((vocabulary,), 0.1 / (vocabulary - 1), dtype=torch.float64)
        claimed[0] = 0.9
        return claimed


class SeedOfItsOwn(ClaimsByNoise):
    """Draw evenly, as it claims, by noise that is the same whatever the seed is."""

    def noise(self, chance: Chance, keys: Tensor, places: Tensor, vocabulary: int) -> Tensor:
        super().noise(chance, keys, places, vocabulary)
        return super().noise(Chance(7), keys, places, vocabulary)

    def claimed(self, vocabulary: int) -> Tensor:
        return torch.full((vocabulary,), 1 / vocabulary, dtype=torch.float64)


class OneForAll(SeedOfItsOwn):
    """Draw evenly, as it claims, by noise of the seed and the place: one draw for all requests."""

    def noise(self, chance: Chance, keys: Tensor, places: Tensor, vocabulary: int) -> Tensor:
        return chance.gumbel(torch.zeros_like(keys), places, vocabulary)


class SeedBeyondTheFirst(SeedOfItsOwn):
    """Draw the first token by the seed's noise, and those after it by noise that no seed changes."""

    def noise(self, chance: Chance, keys: Tensor, places: Tensor, vocabulary: int) -> Tensor:
        own, others = chance.gumbel(keys, places, vocabulary), super().noise(chance, keys, places, vocabulary)
        return torch.where(torch.arange(places.shape[1])[:, None] == 0, own, others)


class OwnGenerator(SeedOfItsOwn):
    """Draw evenly, as it claims, from a generator that each drafter seeds anew."""

    def start(self, context: Context, rows: Sequence[int]) -> None:
        super().start(context, rows)
        self.generator = torch.Generator().manual_seed(7)

    def noise(self, chance: Chance, keys: Tensor, places: Tensor, vocabulary: int) -> Tensor:
        chance.gumbel(keys, places, vocabulary)
        return torch.rand(*places.shape, vocabulary, generator=self.generator)


def _cut(q: Tensor) -> Tensor:
    return q.masked_fill(q < q.topk(2).values[..., -1:], 0.0)


def _drawing(kind: type[Drawing]) -> Any:
    return lambda target: kind(some_q(1, target.vocabulary_size), 2)


BUGS = [
    Bug("drafter", "drafts greedily, and claims softmax probabilities", "draws_what_it_reports", _drawing(Greedily)),
    Bug(
        "drafter",
        "reports the untruncated q after drawing from the truncated",
        "draws_what_it_reports",
        _drawing(Untruncated),
    ),
    Bug("drafter", "reports probabilities that do not sum to one", "probabilities_sum_to_one", _drawing(Unnormalised)),
    Bug(
        "drafter",
        "gives the token that it drew a probability of zero",
        "drawn_tokens_have_mass",
        _drawing(MasslessTokens),
    ),
    Bug(
        "drafter",
        "claims softmax probabilities from its second draft on",
        "exact_distribution",
        _drawing(GreedilyLater),
    ),
    Bug("drafter", "draws with noise from others than it claims", "draws_what_it_reports", ClaimsByNoise),
    Bug("drafter", "draws with noise of a seed of its own", "draws_what_it_reports", SeedOfItsOwn),
    Bug(
        "drafter", "draws its later tokens with noise of a seed of its own", "draws_what_it_reports", SeedBeyondTheFirst
    ),
    Bug("drafter", "draws with one noise for all requests", "draws_what_it_reports", OneForAll),
    Bug("drafter", "draws from a generator that it seeds anew", "draws_what_it_reports", OwnGenerator),
    Bug("drafter", "drafts ahead for another row", "rows_are_independent", AheadOfOthers),
    Bug("drafter", "draws from torch's own generator as it drafts ahead", "chance_is_all_that_is_random", AheadByDice),
    Bug("drafter", "writes into the context as it drafts ahead", "inputs_are_left_alone", AheadOfTheContext),
    Bug(
        "drafter",
        "writes a slot that was just accepted as it drafts ahead",
        "committed_slots_are_left_alone",
        AheadInTheCache,
    ),
    Bug("drafter", "changes the target's weights", "greedy_text", Retrains),
    Bug("drafter", "keeps a row alive: decoding never ends", "greedy_text", Revives),
    Bug("drafter", "sets the context's sampling", "inputs_are_left_alone", Cools),
    Bug("drafter", "seeds numpy's generator", "chance_is_all_that_is_random", SeedsNumpy),
    Bug("drafter", "says that it took less than no passes", "draft_has_its_form", SavesPasses),
    Bug("drafter", "draws the verifier's chance another seed", "coupled_text", Reseeds),
    Bug("drafter", "ignores the limit: always drafts its whole width", "draft_fits_the_room", NoLimit),
    Bug("drafter", "goes on drafting for rows that ended", "draft_fits_the_room", DraftsForTheEnded),
    Bug("drafter", "says other lengths on the host than on the device", "draft_fits_the_room", KnowsBetter),
    Bug("drafter", "drafts a token that the target does not have", "tokens_are_in_the_vocabulary", TooManyTokens),
    Bug("drafter", "returns tokens as int32", "draft_has_its_form", HalfWidth),
    Bug("drafter", "takes its rejected drafts for text", "history_leaves_no_trace", Stale),
    Bug("drafter", "is off in its position after a rejection", "history_leaves_no_trace", CountsPositions),
    Bug("drafter", "writes an adapted length back into its options", "history_leaves_no_trace", Adapting),
    Bug("drafter", "keeps n-grams from one prompt to the next, undeclared", "prompts_leave_no_trace", Remembering),
    Bug("drafter", "keeps its state in the class", "drafters_do_not_meet", Sharing),
    Bug("drafter", "mixes rows up once one has ended", "rows_are_independent", CompactingRows),
    Bug("drafter", "draws from torch's own generator", "chance_is_all_that_is_random", OwnDice),
    Bug("drafter", "seeds torch's generator", "chance_is_all_that_is_random", Seeding),
    Bug("drafter", "writes its draft into the context", "inputs_are_left_alone", MovesTheAnchor),
    Bug("drafter", "writes a committed slot of the cache", "committed_slots_are_left_alone", WritesCommitted),
    Bug("drafter", "raises once a row has ended", "greedy_text", RaisingWhenEnded),
    Bug("drafter", "takes the text from the device, row by row", "drafting_waits_seldom", ReadsRowByRow),
    Bug("drafter", "does not say whether it learns", "declares_itself", SilentLearner),
]
