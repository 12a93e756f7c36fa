"""The checks of sampling see what they are there to see: each planted bug makes the one that is named with it fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from support.building import table_target
from support.sampled import (
    AT_ONE,
    EXACT,
    ChosenDrafter,
    DrawingDrafter,
    NoisyDrafter,
    coupled_answers,
    decoded,
    distribution_error,
    greedy_answers,
    random_q,
)
from support.thorough import thorough_but
from torch import Tensor

import orthrus_verifiers.rejection as rejection
from orthrus import Chance, Context, Draft, Sampling, Stop
from orthrus.sampling import acceptance
from orthrus.sampling.logits_processor import LogitsProcessor
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection

Plant = Callable[[pytest.MonkeyPatch], None]
Q = random_q(1, 3)
TARGET = table_target(3, alphabet="abc")
PENALIZED = Sampling(temperature=1.0, repetition_penalty=1.7, presence_penalty=0.5, bad_words=((0, 1),))
PROMPTS = [[0, 1, 2], [2, 2], [1], [0, 0, 1]]


def wrong_distributions() -> Iterator[float]:
    """Yield the errors of a few decoders that verify by rejection; as soon as one is large, a check has failed."""
    drawing, chosen = (lambda: DrawingDrafter(Q, 2)), (lambda: ChosenDrafter(Q, 2))
    ragged = lambda: DrawingDrafter(random_q(5, 2), 2, ragged=True)  # noqa: E731
    yield distribution_error(TARGET, drawing, Rejection(), [[0]], Stop(3), AT_ONE)
    yield distribution_error(TARGET, chosen, Rejection(), [[0]], Stop(4), AT_ONE)
    yield distribution_error(TARGET, drawing, Rejection(), [[0]], Stop(3), PENALIZED)
    yield distribution_error(table_target(3, alphabet="ab"), ragged, Rejection(), [[0], [1]], Stop(2), AT_ONE)


def check_distributions() -> None:
    assert all(error < EXACT for error in wrong_distributions())


def check_paths() -> None:
    stop, ids = Stop(12), ["0", "1", "2", "3"]
    wanted = coupled_answers(TARGET, PROMPTS, stop, AT_ONE, 7, ids)
    for drafter in (NoDrafter(), NoisyDrafter(Q, 3), DrawingDrafter(Q, 3, ragged=True)):
        for batch in (1, 2, 4):
            assert decoded(TARGET, drafter, Coupled(), PROMPTS, stop, AT_ONE, 7, batch) == wanted


def check_penalties() -> None:
    settings = [
        Sampling(repetition_penalty=1.7),
        Sampling(presence_penalty=0.8),
        Sampling(frequency_penalty=0.8),
        Sampling(bad_words=((0, 1), (2, 2))),
        Sampling(logit_bias={2: 1.5}),
    ]
    for seed in range(8):
        target = table_target(seed, alphabet="abc")
        for sampling in settings:
            wanted = greedy_answers(target, PROMPTS, Stop(12), sampling)
            drafter = ChosenDrafter(random_q(seed, 3), 3)
            assert decoded(target, drafter, Consensus(), PROMPTS, Stop(12), sampling) == wanted


def drafting_greedily_while_claiming_probabilities(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DrawingDrafter, "choose", ChosenDrafter.choose)


def the_untruncated_q_is_reported(patch: pytest.MonkeyPatch) -> None:
    choose = DrawingDrafter.choose

    def truncated(self: DrawingDrafter, chance: Chance, q: Tensor) -> Tensor:
        return choose(self, chance, q.masked_fill(q < q.topk(2).values[..., -1:], 0.0))

    patch.setattr(DrawingDrafter, "choose", truncated)


def the_residual_is_missing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rejection, "residual", lambda probabilities, tokens, drawn_from: probabilities)


def the_ratio_is_upside_down(patch: pytest.MonkeyPatch) -> None:
    def inverted(probabilities: Tensor, tokens: Tensor, drawn_from: Tensor | None) -> Tensor:
        chances = acceptance(probabilities, tokens, drawn_from)
        if drawn_from is None:
            return chances
        return (1 / (probabilities / drawn_from)).gather(-1, tokens[..., None])[..., 0].clamp(max=1)

    patch.setattr(rejection, "acceptance", inverted)


def the_bonus_comes_from_the_wrong_place(patch: pytest.MonkeyPatch) -> None:
    after = rejection.next_token_probabilities

    def before(wanted: Tensor, draft: Draft, accepted: Tensor) -> Tensor:
        whole = (accepted == draft.lengths)[:, None]
        shifted = wanted[torch.arange(len(accepted)), (accepted - 1).clamp(min=0)]
        return torch.where(whole, shifted, after(wanted, draft, accepted))

    patch.setattr(rejection, "next_token_probabilities", before)


def the_bonus_comes_from_another_row(patch: pytest.MonkeyPatch) -> None:
    after = rejection.next_token_probabilities
    patch.setattr(
        rejection, "next_token_probabilities", lambda wanted, draft, accepted: after(wanted.roll(1, 0), draft, accepted)
    )


def a_tenth_too_lenient(patch: pytest.MonkeyPatch) -> None:
    def lenient(probabilities: Tensor, tokens: Tensor, drawn_from: Tensor | None) -> Tensor:
        return (1.1 * acceptance(probabilities, tokens, drawn_from)).clamp(max=1)

    patch.setattr(rejection, "acceptance", lenient)


def a_draft_goes_on_after_its_length(patch: pytest.MonkeyPatch) -> None:
    counts = rejection.accepted_counts
    patch.setattr(rejection, "accepted_counts", lambda chances, lengths: counts(chances, lengths + 1))


def a_chosen_token_counts_as_drawn_evenly(patch: pytest.MonkeyPatch) -> None:
    def even(probabilities: Tensor, tokens: Tensor, drawn_from: Tensor | None) -> Tensor:
        claimed = torch.full_like(probabilities, 1 / 3) if drawn_from is None else drawn_from
        return acceptance(probabilities, tokens, claimed)

    patch.setattr(rejection, "acceptance", even)


def a_penalty_does_not_see_the_draft(patch: pytest.MonkeyPatch) -> None:
    process = LogitsProcessor.__call__

    def blind(self: LogitsProcessor, context: Context, draft: Draft, logits: Tensor) -> Tensor:
        places = range(logits.shape[1])
        empty = context.empty_draft()
        return torch.cat([process(self, context, empty, logits[:, index : index + 1]) for index in places], dim=1)

    patch.setattr(LogitsProcessor, "__call__", blind)


def a_penalty_sees_the_whole_draft(patch: pytest.MonkeyPatch) -> None:
    process = LogitsProcessor.__call__

    def foresighted(self: LogitsProcessor, context: Context, draft: Draft, logits: Tensor) -> Tensor:
        late = process(self, context, draft, logits[:, -1:].expand_as(logits))[:, -1] - logits[:, -1]
        return (logits + late[:, None]) if draft.tokens.shape[1] else process(self, context, draft, logits)

    patch.setattr(LogitsProcessor, "__call__", foresighted)


def penalties_count_the_prompt_as_output(patch: pytest.MonkeyPatch) -> None:
    process = LogitsProcessor.__call__

    def counting(self: LogitsProcessor, context: Context, draft: Draft, logits: Tensor) -> Tensor:
        patch.setattr(context, "prompt_lengths", torch.zeros_like(context.lengths))
        return process(self, context, draft, logits)

    patch.setattr(LogitsProcessor, "__call__", counting)


def noise_is_keyed_by_the_row_of_the_batch(patch: pytest.MonkeyPatch) -> None:
    noise = Chance.gumbel

    def by_row(self: Chance, keys: Tensor, positions: Tensor, vocabulary_size: int) -> Tensor:
        return noise(self, torch.arange(len(keys)), positions, vocabulary_size)

    patch.setattr(Chance, "gumbel", by_row)


def noise_is_keyed_by_the_place_in_the_draft(patch: pytest.MonkeyPatch) -> None:
    noise = Chance.gumbel

    def by_column(self: Chance, keys: Tensor, positions: Tensor, vocabulary_size: int) -> Tensor:
        return noise(self, keys, positions - positions[:, :1], vocabulary_size)

    patch.setattr(Chance, "gumbel", by_column)


def noise_is_drawn_anew_each_cycle(patch: pytest.MonkeyPatch) -> None:
    noise, cycles = Chance.gumbel, iter(range(1000000))

    def anew(self: Chance, keys: Tensor, positions: Tensor, vocabulary_size: int) -> Tensor:
        return noise(self, keys + next(cycles), positions, vocabulary_size)

    patch.setattr(Chance, "gumbel", anew)


def coupled_accepts_near_runners_up(patch: pytest.MonkeyPatch) -> None:
    verify = Coupled.verify

    def lenient(self: Coupled, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> object:
        drafted = torch.nn.functional.one_hot(draft.tokens, logits.shape[-1])
        favoured = torch.cat([0.3 * drafted, torch.zeros_like(logits[:, :1])], dim=1)
        return verify(self, context, draft, logits + favoured, chance)

    patch.setattr(Coupled, "verify", lenient)


def processing_is_left_out_at_temperature_zero(patch: pytest.MonkeyPatch) -> None:
    def nothing(self: LogitsProcessor, context: Context, draft: Draft, logits: Tensor) -> Tensor:
        return logits

    patch.setattr(LogitsProcessor, "__call__", nothing)


BUGS: dict[Plant, Callable[[], None]] = {
    drafting_greedily_while_claiming_probabilities: check_distributions,
    the_untruncated_q_is_reported: check_distributions,
    the_residual_is_missing: check_distributions,
    the_ratio_is_upside_down: check_distributions,
    the_bonus_comes_from_the_wrong_place: check_distributions,
    the_bonus_comes_from_another_row: check_distributions,
    a_tenth_too_lenient: check_distributions,
    a_draft_goes_on_after_its_length: check_distributions,
    a_chosen_token_counts_as_drawn_evenly: check_distributions,
    a_penalty_does_not_see_the_draft: check_penalties,
    a_penalty_sees_the_whole_draft: check_penalties,
    penalties_count_the_prompt_as_output: check_penalties,
    processing_is_left_out_at_temperature_zero: check_penalties,
    noise_is_keyed_by_the_row_of_the_batch: check_paths,
    noise_is_keyed_by_the_place_in_the_draft: check_paths,
    noise_is_drawn_anew_each_cycle: check_paths,
    coupled_accepts_near_runners_up: check_paths,
}


CHECKS = [check_distributions, check_penalties, check_paths]


@pytest.mark.parametrize("check", thorough_but(CHECKS[2:], CHECKS), ids=lambda check: check.__name__)
def test_the_checks_accept_what_is_right(check: Callable[[], None]) -> None:
    check()


ONE_A_CHECK = [the_residual_is_missing, a_penalty_does_not_see_the_draft, noise_is_drawn_anew_each_cycle]


@pytest.mark.parametrize("bug", thorough_but(ONE_A_CHECK[1:], BUGS), ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_seen(bug: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        BUGS[bug]()


@pytest.mark.thorough
def test_a_penalty_that_does_not_see_the_draft_changes_distributions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    a_penalty_does_not_see_the_draft(monkeypatch)
    error = distribution_error(TARGET, lambda: DrawingDrafter(Q, 2), Rejection(), [[0]], Stop(3), PENALIZED)
    assert error > EXACT
