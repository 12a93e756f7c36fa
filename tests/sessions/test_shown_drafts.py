"""What a session's events show of drafts: all that was proposed, whose it was, and nothing to who did not ask."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from support.small_sessions import LETTERS, target_of

from orthrus import Chance, Context, Decoder, Draft, Drafter, Event, Stop
from orthrus_cascade.drafter import Cascade
from orthrus_drafters.options import SuffixOptions
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.suffix import Suffix
from orthrus_verifiers.coupled import Coupled


def noting(drafter: Drafter, drafts: list[tuple[int, ...]]) -> Drafter:
    """Let a drafter note what it drafts for the prompt that begins with `a`."""
    propose = drafter.propose

    def noted(context: Context, chance: Chance) -> Draft:
        draft = propose(context, chance)
        for row, tokens, length in zip(context.rows, draft.tokens.tolist(), draft.lengths.tolist(), strict=True):
            if row.live and row.prompt[0] == 0:
                drafts.append(tuple(tokens[:length]))
        return draft

    drafter.propose = noted  # type: ignore[method-assign]
    return drafter


def lookup() -> Drafter:
    return PromptLookup(2, 1, 4)


DRAFTERS: dict[str, Callable[[], Drafter]] = {
    "prompt_lookup": lookup,
    "suffix": lambda: Suffix(SuffixOptions(length=6, min_match=1, branches=2)),  # trees
}


def events_of(drafter: Drafter, shown: str = "shown", **settings: object) -> list[Event]:
    """Return the events of a request beside others that come and go, some with scores."""
    session = Decoder.of(target_of(), drafter, Coupled(), Stop(20)).session(3, **settings)  # type: ignore[arg-type]
    chooser = random.Random(1)
    session.add("abab", id="shown", drafts=shown == "shown")
    events = []
    for number in range(3):
        session.add("".join(chooser.choices(LETTERS[1:], k=5)), id=str(number), logprobs=number or None, stop=Stop(7))
    for event in session:
        assert event.id == "shown" or event.draft is None
        events += [event] if event.id == "shown" else []
    return events


@pytest.mark.parametrize("name", DRAFTERS)
@pytest.mark.parametrize("counts", [False, True])
def test_events_show_what_was_proposed(name: str, counts: bool) -> None:
    proposed: list[tuple[int, ...]] = []
    events = events_of(noting(DRAFTERS[name](), proposed), counts_drafts=counts)
    drafts = [event.draft for event in events if event.draft is not None]
    assert [draft.token_ids for draft in drafts] == [(), *proposed]  # the prefill has none
    assert {draft.drafter for draft in drafts if draft.token_ids} == {name}
    assert {draft.drafter for draft in drafts if not draft.token_ids} == {None}
    for event, draft in zip(events, drafts, strict=True):
        accepted = event.token_ids[: event.accepted]
        assert sorted([*accepted, *draft.rejected(accepted)]) == sorted(draft.token_ids)
        if name == "prompt_lookup":
            assert draft.rejected(accepted) == list(draft.token_ids[event.accepted :])
    assert [event.drafted for event in events] == [len(draft.token_ids) if counts else 0 for draft in drafts]
    assert any(event.accepted for event in events)


def test_who_does_not_ask_is_shown_nothing() -> None:
    asked, unasked = events_of(lookup()), events_of(lookup(), "hidden")
    assert all(event.draft is None for event in unasked)
    assert [event.token_ids for event in asked] == [event.token_ids for event in unasked]


def test_a_cascade_says_whose_draft_it_is() -> None:
    events = events_of(Cascade([lookup(), Suffix()], "passes"))
    drafters = {event.draft.drafter for event in events if event.draft and event.draft.token_ids}
    assert drafters and drafters <= {"prompt_lookup", "suffix"}
