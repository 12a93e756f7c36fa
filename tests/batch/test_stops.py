"""What ends an answer, and what of it remains."""

from __future__ import annotations

import pytest
from support.building import assert_lossless, decode_with, table_target, target_oracle
from support.drafters import ScriptedDrafter

from orthrus import BuildError, Decoder, InputError, Stop
from orthrus_drafters.none import NoDrafter

TARGET = table_target(seed=3, alphabet="abcdef")
ORACLE = target_oracle(TARGET)
PROMPT = [1, 2, 3]
TRUTH = ORACLE(PROMPT, Stop(24)).token_ids
TEXT = "".join("abcdef"[token] for token in TRUTH)


def drafted(stop: Stop, lengths: list[int]):  # type: ignore[no-untyped-def]
    return decode_with(TARGET, ScriptedDrafter([TRUTH], 6, 1.0, lengths), [PROMPT], stop)[0]


@pytest.mark.parametrize("width", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("token", sorted(set(TRUTH)))
def test_a_stop_token_ends_the_answer_wherever_in_a_draft_it_is(width: int, token: int) -> None:
    stop = Stop(24, token_ids=frozenset({token}))
    result = drafted(stop, [width])
    assert result.token_ids == TRUTH[: TRUTH.index(token) + 1]
    assert result.finish_reason == "stop_token"


def test_token_id_0_is_a_stop_token_like_any_other() -> None:
    assert 0 in TRUTH
    assert drafted(Stop(24, token_ids=frozenset({0})), [4]).token_ids[-1] == 0


def test_any_of_several_stop_tokens_ends_the_answer() -> None:
    two = frozenset(TRUTH[4:7])
    first = min(TRUTH.index(token) for token in two)
    assert drafted(Stop(24, token_ids=two), [5]).token_ids == TRUTH[: first + 1]


@pytest.mark.parametrize("limit", range(12))
@pytest.mark.parametrize("width", [0, 3, 20])
def test_the_limit_is_exact(limit: int, width: int) -> None:
    result = drafted(Stop(limit), [width])
    assert result.token_ids == TRUTH[:limit]
    assert result.finish_reason == "length"
    assert result.measures.new_tokens == limit


@pytest.mark.parametrize("least", [0, 1, 5, 24])
def test_no_stop_token_before_min_new_tokens(least: int) -> None:
    stop = Stop(24, least, frozenset({TRUTH[1]}))
    assert_lossless([drafted(stop, [0, 3, 7])], [ORACLE(PROMPT, stop)])
    assert len(drafted(stop, [3]).token_ids) >= least


@pytest.mark.parametrize("string", [TEXT[5:8], TEXT[0], TEXT[3:5], "ff"])
@pytest.mark.parametrize("width", [0, 2, 9])
@pytest.mark.parametrize("least", [0, 9])
def test_a_stop_string_ends_the_answer_and_is_cut_off(string: str, width: int, least: int) -> None:
    stop = Stop(24, least, strings=(string,))
    result = drafted(stop, [width])
    assert_lossless([result], [ORACLE(PROMPT, stop)])
    if result.finish_reason == "stop_string":
        whole = "".join("abcdef"[token] for token in result.token_ids)
        assert whole.startswith(result.text + string)
    stream = Decoder.of(TARGET, NoDrafter(), drafted_verifier(), stop).stream(PROMPT)
    assert "".join(piece.text for piece in stream) == result.text == stream.result.text


def drafted_verifier():  # type: ignore[no-untyped-def]
    from orthrus_verifiers.consensus import Consensus

    return Consensus()


def test_rows_end_on_their_own_and_the_others_go_on() -> None:
    prompts = [[1, 2, 3], [4], [5, 5, 5, 5, 5], [2]]
    stop = Stop(20, token_ids=frozenset({TRUTH[6]}))
    truths = [ORACLE(prompt, Stop(20)).token_ids for prompt in prompts]
    answers = [ORACLE(prompt, stop) for prompt in prompts]
    assert len({len(answer.token_ids) for answer in answers}) > 1
    assert_lossless(decode_with(TARGET, ScriptedDrafter(truths, 6, 0.8, [0, 1, 4, 8]), prompts, stop), answers)


@pytest.mark.parametrize("width", [0, 1, 2, 3])
def test_a_row_that_a_string_ends_stays_ended_while_others_go_on(width: int) -> None:
    # The string may end with the last token of a cycle: then nothing is cut, and still the row is over.
    prompts = [PROMPT, [4], [2]]
    truths = [ORACLE(prompt, Stop(20)).token_ids for prompt in prompts]
    for end in range(1, 12):
        stop = Stop(20, strings=(TEXT[end - 1 : end + 1],))
        answers = [ORACLE(prompt, stop) for prompt in prompts]
        assert_lossless(decode_with(TARGET, ScriptedDrafter(truths, 6, 1.0, [width]), prompts, stop), answers)


def test_the_models_context_ends_an_answer() -> None:
    target = table_target(seed=3, alphabet="abcdef")
    target.max_length = 10
    result = decode_with(target, ScriptedDrafter([TRUTH], 6, 1.0, [5]), [PROMPT], Stop(24))[0]
    assert result.token_ids == TRUTH[:7] and result.finish_reason == "length"
    with pytest.raises(InputError, match="has 10 tokens; the model's context of 10 leaves no room"):
        decode_with(target, NoDrafter(), [[1] * 10], Stop(24))


def test_foreign_stop_tokens_are_refused() -> None:
    with pytest.raises(BuildError, match="99 is no token of the target; it has 6 tokens"):
        decode_with(TARGET, NoDrafter(), [PROMPT], Stop(4, token_ids=frozenset({99})))
