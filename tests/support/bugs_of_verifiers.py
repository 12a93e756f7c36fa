"""Verifiers, each broken in one way that was seen in the field, or that the design warns of."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Verdict
from orthrus.sampling import accept_greedy, acceptance, accepted_counts, residual, token_probabilities
from orthrus.testing import PlainConsensus
from support.bug import Bug


class Sampler:
    """Honest: speculative sampling, in steps of which each is broken below."""

    greedy = False

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        wanted = self.wanted(context, logits)
        if draft.tokens.shape[1] == 0:
            return Verdict(torch.zeros_like(draft.lengths), chance.categorical(wanted[:, 0]))
        chances = self.acceptance(wanted[:, :-1], draft)
        accepted = chance.categorical(accepted_counts(chances, draft.lengths))
        return Verdict(accepted, chance.categorical(self.after(wanted, draft, accepted)))

    def wanted(self, context: Context, logits: Tensor) -> Tensor:
        return token_probabilities(logits, context.sampling.temperature)

    def acceptance(self, wanted: Tensor, draft: Draft) -> Tensor:
        return acceptance(wanted, draft.tokens, draft.probabilities)

    def after(self, wanted: Tensor, draft: Draft, accepted: Tensor) -> Tensor:
        rows = torch.arange(len(accepted))
        index = accepted.clamp(max=draft.tokens.shape[1] - 1)
        q = None if draft.probabilities is None else draft.probabilities[rows, index]
        left = self.left(wanted[rows, accepted], draft.tokens[rows, index], q)
        return torch.where((accepted < draft.lengths)[:, None], left, wanted[rows, accepted])

    def left(self, own: Tensor, tokens: Tensor, q: Tensor | None) -> Tensor:
        return residual(own, tokens, q)


class NoResidual(Sampler):
    def left(self, own: Tensor, tokens: Tensor, q: Tensor | None) -> Tensor:
        return own


class UpsideDown(Sampler):
    def acceptance(self, wanted: Tensor, draft: Draft) -> Tensor:
        if draft.probabilities is None:
            return super().acceptance(wanted, draft)
        p, q = (
            distribution.gather(-1, draft.tokens[..., None])[..., 0] for distribution in (wanted, draft.probabilities)
        )
        return (q / p).clamp(max=1)


class TenPercentLenient(Sampler):
    def acceptance(self, wanted: Tensor, draft: Draft) -> Tensor:
        return (1.1 * super().acceptance(wanted, draft)).clamp(max=1)


class EvenlyDrawn(Sampler):
    def acceptance(self, wanted: Tensor, draft: Draft) -> Tensor:
        even = torch.full_like(wanted, 1 / wanted.shape[-1])
        return acceptance(wanted, draft.tokens, even if draft.probabilities is None else draft.probabilities)


class ResidualOfTheDrafted(Sampler):
    """Look for what is left among the tokens only that the drafter could have drawn."""

    def left(self, own: Tensor, tokens: Tensor, q: Tensor | None) -> Tensor:
        left = super().left(own, tokens, q)
        return left if q is None else torch.where((q > 0) | (q.sum(-1, keepdim=True) == 0), left + 1e-30, 0.0)


class Epsilon(Sampler):
    """Add a little to p and q, lest anything be divided by zero."""

    def acceptance(self, wanted: Tensor, draft: Draft) -> Tensor:
        q = None if draft.probabilities is None else draft.probabilities + 1e-6
        return acceptance(wanted + 1e-6, draft.tokens, q).clamp(max=1)


class ImpossibleAccepted(Sampler):
    """Accept a token that the target cannot say: its ratio counts as not known."""

    def acceptance(self, wanted: Tensor, draft: Draft) -> Tensor:
        chances = super().acceptance(wanted, draft)
        return torch.where(chances == 0, 1.0, chances)


class BonusOfAnotherRow(Sampler):
    def after(self, wanted: Tensor, draft: Draft, accepted: Tensor) -> Tensor:
        return super().after(wanted.roll(1, 0), draft, accepted)


class TopKOfItsOwn(Sampler):
    def wanted(self, context: Context, logits: Tensor) -> Tensor:
        least = logits.topk(2).values[..., -1:]
        return super().wanted(context, logits.masked_fill(logits < least, float("-inf")))


class LikelyEnough(Sampler):
    """Accept a token as soon as its probability is more than a tenth."""

    def acceptance(self, wanted: Tensor, draft: Draft) -> Tensor:
        chances = super().acceptance(wanted, draft)
        return torch.where(wanted.gather(-1, draft.tokens[..., None])[..., 0] > 0.1, 1.0, chances)


class LengthsOfTheFirst(Sampler):
    """Take the first row's length for all rows: batch 1 only."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        lengths = draft.lengths[:1].expand_as(draft.lengths)
        return super().verify(context, Draft(draft.tokens, lengths, draft.probabilities), logits, chance)


class SamplesWithoutDrafts(Sampler):
    """Accept nothing above temperature 0: exact, and of no use."""

    def acceptance(self, wanted: Tensor, draft: Draft) -> Tensor:
        return super().acceptance(wanted, draft) * 0

    def left(self, own: Tensor, tokens: Tensor, q: Tensor | None) -> Tensor:
        return own


class Undecided(Sampler):
    greedy = None  # type: ignore[assignment]


class Greedy:
    """Honest: greedy consensus, in steps of which each is broken below."""

    greedy = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        choices = self.choices(logits)
        accepted = self.count(choices, draft, logits)
        return Verdict(accepted, self.bonus(choices, accepted, draft))

    def choices(self, logits: Tensor) -> Tensor:
        return logits.argmax(-1)

    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        return accept_greedy(choices, draft.tokens, draft.lengths)

    def bonus(self, choices: Tensor, accepted: Tensor, draft: Draft) -> Tensor:
        return choices.gather(1, accepted[:, None])[:, 0]


class BonusOneEarly(Greedy):
    def bonus(self, choices: Tensor, accepted: Tensor, draft: Draft) -> Tensor:
        return choices.gather(1, (accepted - 1).clamp(min=0)[:, None])[:, 0]


class BonusOfTheLastPlace(Greedy):
    def bonus(self, choices: Tensor, accepted: Tensor, draft: Draft) -> Tensor:
        return choices.gather(1, draft.lengths[:, None])[:, 0]


class NearRunnersUp(Greedy):
    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        drafted = torch.nn.functional.one_hot(draft.tokens, logits.shape[-1])
        favoured = (logits[:, :-1] + 0.5 * drafted).argmax(-1)
        return super().count(torch.cat([favoured, choices[:, -1:]], 1), draft, logits)


class BeyondTheLength(Greedy):
    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        return accept_greedy(choices, draft.tokens, torch.full_like(draft.lengths, draft.tokens.shape[1]))


class TokenByToken(Greedy):
    """Look at every token on the host, and wait for the device each time."""

    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        counts = []
        for row, length in enumerate(draft.lengths.tolist()):
            index = 0
            while index < length and choices[row, index].item() == draft.tokens[row, index].item():
                index += 1
            counts.append(index)
        return torch.tensor(counts)


class RowByRow(Sampler):
    """Read every row's lengths by themselves."""

    def after(self, wanted: Tensor, draft: Draft, accepted: Tensor) -> Tensor:
        return torch.stack(
            [
                super(RowByRow, self).after(wanted, draft, accepted)[row]
                for row in range(len(accepted))
                if int(accepted[row]) >= 0
            ]
        )


class AllAgreeing(Greedy):
    """Count every token that agrees, not only those before the first that does not."""

    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        inside = torch.arange(draft.tokens.shape[1]) < draft.lengths[:, None]
        return ((choices[:, :-1] == draft.tokens) & inside).sum(1)


class FewestOfAllRows(Greedy):
    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        counts = super().count(choices, draft, logits)
        return counts.clamp(max=int(counts.min()))


class DropsTheMask(Greedy):
    """Take a real token that equals the mask's id for padding, and say the next best."""

    def choices(self, logits: Tensor) -> Tensor:
        best = logits.argmax(-1)
        return torch.where(best == 0, logits.topk(2).indices[..., 1], best)


class NothingAccepted(Greedy):
    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        return torch.zeros_like(draft.lengths)


class AcceptsEverything(Greedy):
    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        return draft.lengths


class WritesLogits(Greedy):
    def choices(self, logits: Tensor) -> Tensor:
        return logits.sub_(logits.amax(-1, keepdim=True)).argmax(-1)


class NeedsADraft(Greedy):
    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        draft.tokens[:, 0]  # there is always one, is there not
        return super().verify(context, draft, logits, chance)


class LastOfALongDraft(Greedy):
    """Lose count in drafts of which more than three tokens are accepted."""

    def bonus(self, choices: Tensor, accepted: Tensor, draft: Draft) -> Tensor:
        return super().bonus(choices, torch.where(accepted > 3, accepted - 1, accepted), draft)


class CountsInFloats(Greedy):
    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        return super().count(choices, draft, logits).int()


class GreedyOverZero(PlainConsensus):
    """Say that it samples, and never do: at any temperature it is greedy."""

    greedy = False


class CarriedAway(PlainConsensus):
    """Accept all of a draft once six of its tokens were right."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        verdict = super().verify(context, draft, logits, chance)
        accepted = torch.where(verdict.accepted >= 6, draft.lengths, verdict.accepted)
        return Verdict(accepted, logits.argmax(-1).gather(1, accepted[:, None])[:, 0])


class InHalves(PlainConsensus):
    """Choose by logits in float16, in which near ones are equal."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        return super().verify(context, draft, logits.half(), chance)


BUGS = [
    Bug("verifier", "waits for the device at every token", "verifying_waits_seldom", TokenByToken),
    Bug("verifier", "waits for the device in every row", "verifying_waits_seldom", RowByRow),
    Bug(
        "verifier",
        "accepts all of a draft once six tokens were right",
        "long_drafts_are_kept_up_to_the_first_mistake",
        CarriedAway,
    ),
    Bug("verifier", "chooses by logits in float16", "keeps_only_the_targets_choices", InHalves),
    Bug("verifier", "draws the token after a rejection from p: no residual", "exact_with_drawn_drafts", NoResidual),
    Bug("verifier", "has the ratio p / q upside down", "exact_with_drawn_drafts", UpsideDown),
    Bug("verifier", "is 10 % too lenient", "exact_with_drawn_drafts", TenPercentLenient),
    Bug("verifier", "accepts what is likely enough", "exact_with_drawn_drafts", LikelyEnough),
    Bug("verifier", "applies a top-k of its own", "exact_with_drawn_drafts", TopKOfItsOwn),
    Bug("verifier", "samples nothing: greedy at any temperature", "exact_with_drawn_drafts", GreedyOverZero),
    Bug("verifier", "takes a chosen token for one that was drawn evenly", "exact_with_chosen_drafts", EvenlyDrawn),
    Bug(
        "verifier", "forgets in the residual what the drafter cannot draw", "exact_with_zero_mass", ResidualOfTheDrafted
    ),
    Bug("verifier", "adds an epsilon, lest it divide by zero", "exact_with_drawn_drafts", Epsilon),
    Bug("verifier", "accepts a token that the target cannot say", "says_nothing_impossible", ImpossibleAccepted),
    Bug("verifier", "takes the first row's length for all", "exact_with_ragged_rows", LengthsOfTheFirst),
    Bug("verifier", "accepts nothing above temperature 0", "accepts_what_is_the_targets", SamplesWithoutDrafts),
    Bug("verifier", "does not say whether it is greedy", "declares_itself", Undecided),
    Bug("verifier", "loses count of a long acceptance", "greedy_text", LastOfALongDraft),
    Bug("verifier", "takes the next token's probabilities from another row", "rows_are_independent", BonusOfAnotherRow),
    Bug("verifier", "takes the bonus token from the place before", "keeps_only_the_targets_choices", BonusOneEarly),
    Bug(
        "verifier",
        "takes the bonus token from the draft's last place",
        "keeps_only_the_targets_choices",
        BonusOfTheLastPlace,
    ),
    Bug("verifier", "accepts near runners-up", "keeps_only_the_targets_choices", NearRunnersUp),
    Bug("verifier", "counts agreement after the first disagreement", "keeps_only_the_targets_choices", AllAgreeing),
    Bug("verifier", "accepts whatever is drafted", "keeps_only_the_targets_choices", AcceptsEverything),
    Bug("verifier", "drops a real token that equals the mask's id", "keeps_only_the_targets_choices", DropsTheMask),
    Bug("verifier", "reads drafts beyond their length", "what_is_beyond_a_length_does_not_count", BeyondTheLength),
    Bug("verifier", "cuts every row to the shortest acceptance of the batch", "rows_are_independent", FewestOfAllRows),
    Bug("verifier", "accepts nothing at all", "accepts_all_it_may", NothingAccepted),
    Bug("verifier", "cannot take an empty draft", "empty_drafts_are_plain_decoding", NeedsADraft),
    Bug("verifier", "changes the logits in place", "inputs_are_left_alone", WritesLogits),
    Bug("verifier", "returns counts as int32", "verdict_has_its_form", CountsInFloats),
]
