"""The decoder's face: prompts in, results and streams out, and their measures."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.building import table_target
from support.drafters import ScriptedDrafter

import orthrus
from orthrus import Chance, Context, Decoder, Draft, DraftError, InputError, Stop
from orthrus.metrics import Measures, Ratio, summarize
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus

TABLE = "configs/recipes/table-prompt-lookup.yaml"


def decoder(drafter: object = None, limit: int = 12) -> Decoder:
    return Decoder.of(table_target(1), drafter or PromptLookup(2, 1, 4), Consensus(), Stop(limit))  # type: ignore[arg-type]


def test_results_come_in_order_whatever_the_batch() -> None:
    prompts = ["a", "ab", "abc", "d", "dcb"]
    alone = [result.token_ids for result in decoder().generate(prompts, batch=1)]
    for batch in (2, 3, 8):
        results = decoder().generate(prompts, batch=batch)
        assert [result.token_ids for result in results] == alone
        assert [result.id for result in results] == ["0", "1", "2", "3", "4"]


def test_nothing_remains_of_the_prompts_before() -> None:
    used, fresh = decoder(), decoder()
    used.generate(["abcd", "dd"])
    assert used.generate(["ab"])[0].measures.accepted_per_cycle == fresh.generate(["ab"])[0].measures.accepted_per_cycle


def test_no_prompts_no_results() -> None:
    assert decoder().generate([]) == []


def test_max_new_tokens_0_returns_nothing() -> None:
    result = decoder(limit=0).generate(["ab"])[0]
    assert (result.text, result.token_ids, result.finish_reason) == ("", (), "length")
    assert (result.measures.cycles, result.measures.passes, result.measures.ttft_seconds) == (0, 0, None)
    assert (result.measures.tokens_per_cycle, result.measures.tpf, result.measures.accepted_length) == (None,) * 3


@pytest.mark.parametrize("prompt", ["", "  ", [], ()])
def test_an_empty_prompt_is_refused(prompt: object) -> None:
    with pytest.raises(InputError, match="prompt '1' is empty"):
        decoder().generate(["ab", prompt])  # type: ignore[list-item]


def test_a_single_text_is_not_a_list_of_prompts() -> None:
    with pytest.raises(InputError, match="list of prompts"):
        decoder().generate("abc")


def test_foreign_tokens_and_batches_are_refused() -> None:
    with pytest.raises(InputError, match="9 is no token; there are 4"):
        decoder().generate([[1, 9]])
    with pytest.raises(InputError, match="at least 1, not 0"):
        decoder().generate(["a"], batch=0)
    with pytest.raises(InputError, match="not chat messages"):
        decoder().generate([[{"role": "user", "content": "a"}]])


def test_a_stream_is_the_result_in_pieces() -> None:
    whole = decoder().generate(["abc"])[0]
    stream = decoder().stream("abc")
    pieces = list(stream)
    assert "".join(piece.text for piece in pieces) == whole.text == stream.result.text
    assert dataclasses.replace(stream.result, measures=whole.measures) == whole
    assert sum(piece.accepted for piece in pieces) == sum(whole.measures.accepted_per_cycle)
    assert [piece.step.cycle for piece in pieces] == sorted(piece.step.cycle for piece in pieces)


def test_a_stream_left_early_keeps_what_was_decoded() -> None:
    stream = decoder(NoDrafter()).stream("abc")
    for index, _ in enumerate(stream):
        if index == 3:
            break
    assert len(stream.result.token_ids) == 4


def test_parts_can_be_given_as_objects_and_names() -> None:
    loaded = orthrus.load(TABLE)
    plain = orthrus.load(TABLE, drafter="none", target=loaded.target, stop={"max_new_tokens": 8})
    assert plain.target is loaded.target and isinstance(plain.drafter, NoDrafter)
    assert plain.generate(["abc"])[0].token_ids == loaded.generate(["abc"])[0].token_ids[:8]
    mine = ScriptedDrafter([[0] * 64], 9, 0.0, [2])
    assert orthrus.load(TABLE, drafter=mine).drafter is mine


def test_fractions_of_a_pass_are_counted() -> None:
    class Quarter(NoDrafter):
        def propose(self, context: Context, chance: Chance) -> Draft:
            return Draft(context.anchors[:, None], context.room.clamp(max=1), passes=0.1)

    measures = orthrus.load(TABLE, drafter=Quarter()).generate(["abc"])[0].measures
    assert measures.passes == pytest.approx(1 + 1.1 * measures.cycles)
    assert measures.tpf == measures.new_tokens / measures.passes
    assert measures.to_dict()["passes"] == round(1 + 1.1 * measures.cycles, 6)


def test_an_object_that_is_no_drafter_is_refused() -> None:
    with pytest.raises(orthrus.BuildError, match="given as drafter is no Drafter: it lacks learns, needs"):
        orthrus.load(TABLE, drafter=object())


def test_the_measures_are_those_of_the_definitions() -> None:
    measures = Measures(new_tokens=10, cycles=3, passes=7, accepted_per_cycle=(2, 0, 4), seconds=2.0, ttft_seconds=0.5)
    assert measures.accepted_length == 2.0
    assert measures.tokens_per_cycle == 3.0  # the prefill's token is not a cycle's
    assert measures.tpf == 10 / 7
    assert measures.tokens_per_second == 5.0
    other = Measures(new_tokens=5, cycles=1, passes=2, accepted_per_cycle=(3,), seconds=1.0, ttft_seconds=0.5)
    summary = summarize([measures, other])
    assert (summary.tokens_per_cycle.pooled, summary.tokens_per_cycle.per_prompt) == (13 / 4, (3.0 + 4.0) / 2)
    assert (summary.accepted_length.pooled, summary.accepted_length.per_prompt) == (9 / 4, (2.0 + 3.0) / 2)
    assert (summary.tpf.pooled, summary.tpf.per_prompt) == (15 / 9, (10 / 7 + 5 / 2) / 2)
    nothing = Measures(new_tokens=0, cycles=0, passes=0, accepted_per_cycle=(), seconds=0.0, ttft_seconds=None)
    assert summarize([nothing]).tpf == summarize([]).tpf == Ratio(None, None)


def test_accepted_is_counted_before_a_stop_cuts_it() -> None:
    target = table_target(1)
    truth = decoder(limit=12).generate(["abc"])[0].token_ids
    drafter = ScriptedDrafter([truth], 4, 1.0, [6])
    cut = Stop(12, token_ids=frozenset({truth[2]}))
    result = Decoder.of(target, drafter, Consensus(), cut).generate(["abc"])[0]
    assert result.token_ids == truth[: truth.index(truth[2]) + 1]
    assert result.measures.accepted_per_cycle in [(6,), ()]


class BadDrafter(NoDrafter):
    """Propose what it is given."""

    name = "bad"

    def __init__(self, tokens: object, lengths: object = None) -> None:
        self.tokens = torch.tensor(tokens)
        self.lengths = torch.tensor([self.tokens.shape[1]] if lengths is None else lengths)

    def propose(self, context: orthrus.Context, chance: orthrus.Chance) -> Draft:
        return Draft(self.tokens, self.lengths)


@pytest.mark.parametrize(
    ("drafter", "sentence"),
    [
        (BadDrafter([[1, 4]]), "drafter 'bad' proposed token 4 at place 1 of row 0; the vocabulary has 4 tokens"),
        (BadDrafter([[-1, 1]]), "drafter 'bad' proposed token -1 at place 0 of row 0"),
        (BadDrafter([[1] * 50]), "drafter 'bad' proposed 50 tokens for row 0, which has room for 11"),
        (BadDrafter([[1, 1]], [3]), "gave row 0 a draft of length 3, but only 2 tokens"),
        (BadDrafter([[1, 1]], [-1]), "drafter 'bad' proposed -1 tokens for row 0, which has room for 11"),
        (BadDrafter([[1], [1]], [1, 1]), r"returned tokens \[2, 1\] and lengths \[2\] for 1 rows"),
        (BadDrafter([[1.0]], [1]), "both must be int64"),
    ],
)
def test_a_drafter_that_breaks_its_contract_is_named(drafter: BadDrafter, sentence: str) -> None:
    with pytest.raises(DraftError, match=sentence):
        decoder(drafter).generate(["ab"])


def test_tokens_beyond_a_drafts_length_are_ignored() -> None:
    wanted = decoder(NoDrafter()).generate(["ab"])[0].token_ids
    assert decoder(BadDrafter([[999]], [0])).generate(["ab"])[0].token_ids == wanted


def test_a_draft_may_be_wider_than_the_room_if_its_lengths_are_not() -> None:
    wanted = decoder(NoDrafter(), limit=3).generate(["ab"])[0].token_ids
    assert decoder(BadDrafter([[3] * 50], [1]), limit=3).generate(["ab"])[0].token_ids == wanted


@pytest.mark.parametrize("prompt", [7, None, 1.5])
def test_what_is_no_prompt_is_refused(prompt: object) -> None:
    with pytest.raises(InputError, match="prompt '0' must be text, token ids or messages"):
        decoder().generate([prompt])  # type: ignore[list-item]


def test_token_ids_may_come_as_tensors() -> None:
    assert decoder().encode(torch.tensor([1, 2])) == [1, 2]  # type: ignore[arg-type]


def test_a_second_decoding_ends_the_first_with_an_error_and_not_with_wrong_text() -> None:
    shared = decoder(NoDrafter())
    first, second = iter(shared.stream("abc")), iter(shared.stream("dcb"))
    next(first), next(second)
    with pytest.raises(InputError, match="another decoding was begun on this target"):
        next(first)
    later = iter(shared.stream("abc"))
    next(later)
    shared.generate(["d"])
    with pytest.raises(InputError, match="another decoding was begun on this target"):
        next(later)


def test_a_stream_that_was_left_goes_on_where_it_was() -> None:
    whole = decoder().generate(["abc"])[0]
    stream, pieces = decoder().stream("abc"), []
    while len("".join(pieces)) < len(whole.text):
        for piece in stream:
            pieces.append(piece.text)
            break
    assert "".join(pieces) == whole.text == stream.result.text


@pytest.mark.parametrize("length", [3, -1])
def test_an_empty_draft_with_a_length_is_an_error(length: int) -> None:
    drafter = BadDrafter([[1]], [length])
    drafter.tokens = drafter.tokens[:, :0]
    with pytest.raises(DraftError, match="drafter 'bad'"):
        decoder(drafter).generate(["ab"])


def test_parts_beside_a_target_object_are_not_passed_over() -> None:
    target = orthrus.load(TABLE).target
    with pytest.raises(orthrus.BuildError, match="cache: the target object brings its own"):
        orthrus.load(TABLE, target=target, cache="static")
    with pytest.raises(orthrus.BuildError, match="is the class NoDrafter, not an object of it"):
        orthrus.load(TABLE, drafter=NoDrafter)
