"""On a CUDA device: the kernels that do to rows what a cycle does, held against the same in torch on the CPU."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import orthrus.kernels.available as available
from orthrus import Chance, Context, Draft, Scheduler, Stop, Verdict
from orthrus.batch.validation import bounded
from orthrus.errors import DraftError, InterfaceError
from orthrus.kernels.available import row_kernels
from orthrus.sampling import accept_greedy
from orthrus_verifiers.consensus import Consensus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICE = torch.device("cuda", 0)
WIDTHS = (0, 1, 2, 3, 7, 8, 15, 16, 31, 100)
VOCABULARY = 6
seeds = st.integers(0, 2**32)


@dataclass(frozen=True, eq=False)
class Pair:
    """Hold the same rows on the CPU, where torch commits, and on the CUDA device."""

    contexts: tuple[Context, Context]
    schedulers: tuple[Scheduler, Scheduler]

    @classmethod
    def of(cls, choose: random.Random) -> Pair:
        prompts = [numbers(choose, choose.randint(1, 5)) for _ in range(choose.randint(1, 7))]
        stop_ids = frozenset(choose.sample(range(VOCABULARY), choose.choice([0, 0, 1, 2, 3, 5])))
        stop = Stop(choose.randint(1, 40), token_ids=stop_ids)
        settings: dict[str, Any] = {"vocabulary_size": VOCABULARY, "batch": choose.randint(1, len(prompts))}
        contexts = Context(prompts, stop, **settings), Context(prompts, stop, **settings, device=DEVICE)
        return cls(contexts, (Scheduler(contexts[0]), Scheduler(contexts[1])))

    def step(self, draft: Draft | None, verdict: Verdict) -> None:
        """Commit the same in both; nothing of what the host or the devices hold afterwards may differ."""
        steps, kept = [], []
        for context, scheduler in zip(self.contexts, self.schedulers, strict=True):
            own = context.empty_draft() if draft is None else scheduler.check(on(context, draft))
            steps.append(scheduler.commit(own, on(context, verdict)))
            text = context.tokens[:, :-1].cpu()  # the last column is nobody's
            kept.append([text, *(tensor.cpu() for tensor in (context.lengths, context.room, context.anchors))])
        told = [(step.committed, step.accepted, step.finished, step.prefilled) for step in steps]
        assert told[0] == told[1]
        assert all(torch.equal(tensor, other) for tensor, other in zip(*kept, strict=True))


def on(context: Context, held: Any) -> Any:
    tensors = {name: value.to(context.device) for name, value in vars(held).items() if isinstance(value, Tensor)}
    return type(held)(**tensors)


def numbers(choose: random.Random, count: int, spread: int = 0) -> list[int]:
    return [choose.randrange(-spread, VOCABULARY + spread) for _ in range(count)]


@given(seeds)
def test_rows_are_what_torch_makes_of_them(seed: int) -> None:
    choose = random.Random(seed)
    pair = Pair.of(choose)
    context = pair.contexts[0]
    rows = len(context.rows)
    while context.live:
        prefilled = [scheduler.refill() for scheduler in pair.schedulers]
        assert prefilled[0] == prefilled[1]
        width = 0 if prefilled[0] else choose.choice(WIDTHS)
        width = min(width, context.max_room)
        room = context.room.tolist()
        lengths = [choose.randint(0, min(width, most)) for most in room]
        tokens = torch.tensor([numbers(choose, width) for _ in range(rows)], dtype=torch.int64).reshape(rows, width)
        accepted = torch.tensor([choose.randint(0, length) for length in lengths])
        draft = None if prefilled[0] else Draft(tokens, torch.tensor(lengths))
        pair.step(draft, Verdict(accepted, torch.tensor(numbers(choose, rows))))


@given(seeds)
def test_drafts_are_bounded_and_broken_ones_found(seed: int) -> None:
    choose = random.Random(seed)
    rows, width = choose.randint(1, 5), choose.choice(WIDTHS[1:])
    spread = choose.choice([0, 2])
    tokens = torch.tensor([numbers(choose, 2 * width, spread) for _ in range(rows)])
    tokens = tokens[:, ::2] if choose.random() < 0.5 else tokens[:, :width]  # neither is in one piece
    lengths = torch.tensor([choose.randint(-spread, width + spread) for _ in range(rows)])
    room = torch.tensor([choose.randint(0, width + 2) for _ in range(rows)])
    wanted, short, _ = bounded(tokens, lengths, room, VOCABULARY)
    bounded_draft = bounded(tokens.cuda(), lengths.cuda(), room.cuda(), VOCABULARY)
    inside = torch.arange(width) < short[:, None]
    broken = (short != lengths) | ((wanted != tokens) & inside).any(1)
    assert bounded_draft[2] is not None
    assert torch.equal(bounded_draft[0].cpu(), wanted) and torch.equal(bounded_draft[1].cpu(), short)
    assert torch.equal(bounded_draft[2].cpu(), broken.long())


def test_a_broken_draft_is_reported_with_the_step() -> None:
    context = Context([[1]], Stop(8), vocabulary_size=VOCABULARY, device=DEVICE)
    scheduler = Scheduler(context)
    scheduler.refill()
    nothing, some = torch.zeros(1, dtype=torch.int64, device=DEVICE), torch.ones(1, dtype=torch.int64, device=DEVICE)
    scheduler.commit(context.empty_draft(), Verdict(nothing, some))
    draft = scheduler.check(Draft(some[:, None] + VOCABULARY, some))
    with pytest.raises(DraftError, match="proposed token 7 at place 0 of row 0; the vocabulary has 6 tokens"):
        scheduler.commit(draft, Verdict(nothing, some))


@pytest.mark.parametrize("accepted", [-5, -1, 2, 2**62])
def test_a_verifier_that_accepts_what_is_not_there_is_told_so(accepted: int) -> None:
    context = Context([[1]], Stop(8), vocabulary_size=VOCABULARY, device=DEVICE)
    scheduler = Scheduler(context)
    scheduler.refill()
    nothing, some = torch.zeros(1, dtype=torch.int64, device=DEVICE), torch.ones(1, dtype=torch.int64, device=DEVICE)
    scheduler.commit(context.empty_draft(), Verdict(nothing, some))
    draft, seen = scheduler.check(Draft(some[:, None], some)), list[Tensor]()
    with pytest.raises(InterfaceError, match=f"the verifier accepted {accepted} of the 1 draft tokens of row 0"):
        scheduler.commit(draft, Verdict(some * accepted, some), lambda: seen.append(context.lengths))
    assert int(seen[0]) in (3, 4)  # what is launched ahead reads slots that are there


def test_drawn_drafts_are_judged_by_their_probabilities() -> None:
    context = Context([[1]], Stop(8), vocabulary_size=VOCABULARY, device=DEVICE)
    scheduler = Scheduler(context)
    scheduler.refill()
    nothing, some = torch.zeros(1, dtype=torch.int64, device=DEVICE), torch.ones(1, dtype=torch.int64, device=DEVICE)
    scheduler.commit(context.empty_draft(), Verdict(nothing, some))
    even = torch.full((1, 1, VOCABULARY), 1 / VOCABULARY, device=DEVICE)
    drawn = scheduler.check(Draft(some[:, None], some, even))
    assert scheduler.commit(drawn, Verdict(some, some)).committed == ((1, 1),)
    claimed = scheduler.check(Draft(some[:, None], some, 2 * even))
    with pytest.raises(DraftError, match="gave probabilities that sum to 2, not 1, at place 0 of row 0"):
        scheduler.commit(claimed, Verdict(some, some))


def test_numbers_may_be_narrower_and_lie_apart() -> None:
    context = Context([[1], [2, 3]], Stop(8), vocabulary_size=VOCABULARY, device=DEVICE)
    scheduler = Scheduler(context)
    scheduler.refill()
    apart = torch.tensor([[0, 4, 9], [0, 5, 9]], dtype=torch.int32, device=DEVICE)
    step = scheduler.commit(context.empty_draft(), Verdict(apart[:, 0], apart[:, 1]))
    assert step.committed == ((4,), (5,))
    assert context.anchors.tolist() == [4, 5]


@given(seeds)
def test_accepted_are_those_of_torch(seed: int) -> None:
    choose = random.Random(seed)
    rows, width = choose.randint(1, 5), choose.choice(WIDTHS[1:])
    choices = torch.tensor([numbers(choose, width + 1) for _ in range(rows)])
    tokens = choices[:, :-1].clone()
    for row in range(rows):
        tokens[row, choose.randrange(width) :] += choose.randint(0, 1)
    lengths = torch.tensor([choose.randint(0, width) for _ in range(rows)])
    counted = accept_greedy(choices.cuda(), tokens.cuda(), lengths.cuda())
    assert counted.tolist() == accept_greedy(choices, tokens, lengths).tolist()


class Launches(TorchDispatchMode):
    """Count torch's operations, views aside."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kinds = [value.alias_info for value in func._schema.returns]
        self.count += not any(alias is not None and not alias.is_write for alias in kinds) and "empty" not in str(func)
        return func(*args, **(kwargs or {}))


def test_a_cycle_takes_few_launches() -> None:
    context = Context([[1], [2, 3]], Stop(20, token_ids=frozenset({5})), vocabulary_size=VOCABULARY, device=DEVICE)
    scheduler = Scheduler(context)
    scheduler.refill()
    zeros = torch.zeros(2, dtype=torch.int64, device=DEVICE)
    scheduler.commit(context.empty_draft(), Verdict(zeros, zeros + 1))
    draft, logits = Draft(zeros[:, None].expand(2, 3), zeros + 3), torch.zeros(2, 4, VOCABULARY, device=DEVICE)
    with Launches() as launches:
        admitted = scheduler.check(draft)
        verdict = Consensus().verify(context, admitted, logits, Chance(0, context.device))
        scheduler.commit(admitted, verdict)
    assert launches.count <= 4  # argmax, gather, what the host reads; the rest are three kernels


def test_where_triton_compiles_nothing_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from orthrus.kernels import triton_rows as kernels

    def refuse(*given: Any) -> None:
        raise RuntimeError("Failed to find C compiler\nand more")

    monkeypatch.setattr(kernels, "accept", refuse)
    monkeypatch.setattr(available, "row_kernels", row_kernels.__wrapped__)  # not what it remembers
    with pytest.warns(UserWarning, match=r"Triton runs no kernels on 'cuda:0' \(Failed to find C compiler\)"):
        assert available.row_kernels(DEVICE) is None
