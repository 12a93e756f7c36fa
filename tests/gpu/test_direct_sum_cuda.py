"""On a CUDA device: sums over ranks in one kernel with what stands around them, the ranks being two streams."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from orthrus.kernels import summed_linear

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
EMPTY, LETTER, RANKS, SLOTS = -(2**31), 4096, 2, 2


@dataclass
class Inboxes:
    """The inboxes of a rank beside another's."""

    rank: int
    inboxes: Tensor
    ranks: int = RANKS
    letter: int = LETTER
    slot_bytes: int = 0

    @property
    def buffers(self) -> Tensor:
        """What sums of more tokens use."""
        raise AssertionError("no sum here is of that many tokens")

    marks = buffers

    def part(self, like: Tensor, slot: int) -> Tensor:
        raise AssertionError("a part needs no place of its own")


@pytest.mark.parametrize("tokens", [1, 16, 17, 32])
@pytest.mark.parametrize("normed", [True, False])
def test_every_rank_gets_the_sum_to_the_bit(tokens: int, normed: bool) -> None:
    generator = torch.Generator("cuda").manual_seed(tokens)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device="cuda").bfloat16()

    memory = [torch.zeros(SLOTS, RANKS, LETTER, dtype=torch.int32, device="cuda") for _ in range(RANKS)]
    table = torch.tensor([inbox.data_ptr() for inbox in memory], device="cuda")
    shared = [Inboxes(rank, table) for rank in range(RANKS)]
    streams = [torch.cuda.Stream() for _ in range(RANKS)]
    residual, norm = drawn(1, tokens, 128), drawn(128) if normed else None
    for rank in range(RANKS):  # compiled while nothing waits: to load a kernel may wait for those that run
        summed_linear.linear_summed(drawn(1, tokens, 256), drawn(128, 256), residual.clone(), norm, shared[rank], 0)
    torch.cuda.synchronize()
    for inbox in memory:
        inbox.fill_(EMPTY)
    hidden = [residual.clone() for _ in range(RANKS)]
    expected = residual.double()
    for turn in range(5):  # slots come again
        inputs, weights = [drawn(1, tokens, 256) for _ in range(RANKS)], [drawn(128, 256) / 16 for _ in range(RANKS)]
        expected += sum(x.double() @ w.double().t() for x, w in zip(inputs, weights, strict=True))
        torch.cuda.synchronize()
        made = []
        for rank, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                given = inputs[rank], weights[rank], hidden[rank], norm, shared[rank], turn % SLOTS
                made.append(summed_linear.linear_summed(*given))
        torch.cuda.synchronize()
        assert torch.equal(hidden[0], hidden[1])
        torch.testing.assert_close(hidden[0].double(), expected, rtol=1e-2, atol=2e-2)
        expected = hidden[0].double()
        assert all(bool((inbox == EMPTY).all()) for inbox in memory), "all that came was read"
        for prepared in made:
            assert (prepared is not None) == normed
            if prepared is not None and norm is not None:
                assert torch.equal(prepared.gained, (hidden[0].float() * norm.float()).bfloat16())
                squares = prepared.parts.view(prepared.count, -1)[:, :tokens].sum(0)
                torch.testing.assert_close(squares, hidden[0].float().square().sum(-1)[0])


@pytest.mark.parametrize(("width", "most"), [(1536, 40), (2048, 96), (4096, 64)])
def test_a_token_gets_the_bits_that_it_gets_alone(width: int, most: int) -> None:
    """With another tile and with several, too, squares and all."""
    generator, counts = torch.Generator("cuda").manual_seed(0), (1, 16, 32, most)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device="cuda").bfloat16() / 16

    memory = [torch.zeros(SLOTS, RANKS, most * width, dtype=torch.int32, device="cuda") for _ in range(RANKS)]
    table = torch.tensor([inbox.data_ptr() for inbox in memory], device="cuda")
    shared = [Inboxes(rank, table, letter=most * width) for rank in range(RANKS)]
    streams = [torch.cuda.Stream() for _ in range(RANKS)]
    residual, norm, inputs = drawn(1, most, width), drawn(width), [drawn(1, most, 512) for _ in range(RANKS)]
    weights = [drawn(width, 512) for _ in range(RANKS)]

    def of_a_rank(rank: int, count: int) -> list[Tensor]:
        hidden = residual[:, :count].clone()
        given = inputs[rank][:, :count].contiguous(), weights[rank], hidden, norm, shared[rank], 0
        made = summed_linear.linear_summed(*given)
        assert made is not None, "a norm follows"
        return [hidden, made.gained, made.parts.view(1, made.count, -1)[..., :count].transpose(1, 2)]

    for rank in range(RANKS):  # compiled while nothing waits: to load a kernel may wait for those that run
        for count in counts:
            for inbox in memory:
                inbox.zero_()
            torch.cuda.synchronize()
            of_a_rank(rank, count)
            torch.cuda.synchronize()
    for inbox in memory:
        inbox.fill_(EMPTY)
    results = []
    for count in counts:
        torch.cuda.synchronize()
        ranks = []
        for rank, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                ranks.append(of_a_rank(rank, count))
        torch.cuda.synchronize()
        assert all(map(torch.equal, *ranks))
        results.append(ranks[0])
    for count, result in zip(counts, results, strict=True):
        for got, among in zip(result, results[-1], strict=True):
            assert torch.equal(got, among[:, :count]), count


@dataclass
class Parts:
    """The parts and marks of a rank beside another's: [SLOTS, LETTER] numbers, and [rows, RANKS] marks."""

    rank: int
    memory: list[Tensor]
    buffers: Tensor
    marks: Tensor
    ranks: int = RANKS
    slot_bytes: int = 2 * LETTER

    def part(self, like: Tensor, slot: int) -> Tensor:
        return self.memory[self.rank][slot][: like.numel()].view(like.shape)


@pytest.mark.parametrize("tokens", [1, 32])
def test_sums_follow_one_another_without_end(tokens: int) -> None:
    """The marks that count them begin anew meanwhile; a kernel of one rank is ahead of the other's by chance."""
    generator = torch.Generator("cuda").manual_seed(tokens)
    memory = [torch.zeros(SLOTS, LETTER, dtype=torch.bfloat16, device="cuda") for _ in range(RANKS)]
    marks = [torch.full((tokens, RANKS), 2**31 - 50, dtype=torch.int32, device="cuda") for _ in range(RANKS)]
    tables = [torch.tensor([place.data_ptr() for place in places], device="cuda") for places in (memory, marks)]
    ranks = [Parts(rank, memory, *tables) for rank in range(RANKS)]
    streams = [torch.cuda.Stream() for _ in range(RANKS)]
    inputs = [torch.randint(-2, 3, (1, tokens, 128), generator=generator, device="cuda").bfloat16() for _ in ranks]
    weights = [torch.randint(-1, 2, (128, 128), generator=generator, device="cuda").bfloat16() for _ in ranks]
    hidden = [torch.zeros(1, tokens, 128, dtype=torch.bfloat16, device="cuda") for _ in ranks]
    idle = torch.zeros(2**24, device="cuda")  # to hold one rank up with, and without new memory
    idle.neg_()  # loaded while nothing waits
    products = [x.double() @ w.double().t() for x, w in zip(inputs, weights, strict=True)]
    assert max(float(product.abs().max()) for product in products) < 128, "their sums are exact in bfloat16"
    for rank in ranks:  # compiled while nothing waits: the other's mark is there
        marks[rank.rank][:, 1 - rank.rank] = 2**31 - 49
        summed_linear.linear_added_directly(
            inputs[rank.rank], weights[rank.rank], hidden[rank.rank].clone(), None, rank, 0
        )
        torch.cuda.synchronize()
    for mine in marks:
        mine.fill_(2**31 - 50)
    torch.cuda.synchronize()
    for turn in range(200):
        for rank, stream in zip(ranks, streams, strict=True):
            with torch.cuda.stream(stream):
                hidden[rank.rank].zero_()
                given = inputs[rank.rank], weights[rank.rank], hidden[rank.rank], None, rank, turn % SLOTS
                summed_linear.linear_added_directly(*given)
                if turn % 7 == rank.rank:
                    idle.neg_()
    torch.cuda.synchronize()
    for states in hidden:
        assert torch.equal(states.double(), products[0] + products[1])
    assert all(bool((mine == 150 - 2**31).all()) for mine in marks)
