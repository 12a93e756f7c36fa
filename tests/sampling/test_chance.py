"""Chance: draws follow their probabilities, and noise is the function that it says it is."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import decode_with, table_target
from support.sampled import AT_ONE, EXACT, NoisyDrafter, random_q
from support.thorough import thorough_but
from torch import Tensor

from orthrus import Chance, Context, Draft, Stop, Verifier
from orthrus.chance import request_key
from orthrus.testing import OracleAnswer, every_answer
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection

WORD = 2**64
CRITICAL = 0.001  # probability of a test's statistic if all is right; seeds are fixed, so nothing is by chance


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Return the probability of a larger statistic (Wilson and Hilferty's approximation)."""
    spread = 2 / (9 * freedom)
    score = ((statistic / freedom) ** (1 / 3) - 1 + spread) / math.sqrt(spread)
    return 0.5 * math.erfc(score / math.sqrt(2))


def fits(counts: Tensor, probabilities: Tensor) -> bool:
    """Tell whether counts [V] are likely under probabilities [V]; what is impossible must not occur."""
    possible = probabilities > 0
    if counts[~possible].any():
        return False
    wanted = probabilities[possible] * counts.sum()
    statistic = float(((counts[possible] - wanted) ** 2 / wanted).sum())
    return chi_square_tail(statistic, int(possible.sum()) - 1) > CRITICAL


PROBABILITIES = torch.tensor([0.5, 0.3, 0.15, 0.0, 0.05], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_draws_follow_their_probabilities(dtype: torch.dtype) -> None:
    drawn = Chance(1).categorical(PROBABILITIES.to(dtype).expand(40_000, 5))
    shares = PROBABILITIES.to(dtype).double()
    assert fits(torch.bincount(drawn, minlength=5).double(), shares / shares.sum())


def test_the_shape_is_that_of_the_distributions() -> None:
    assert Chance(0).categorical(torch.ones(2, 3, 4)).shape == (2, 3)
    assert Chance(0).categorical(torch.ones(0, 3)).shape == (0,)


def test_a_seed_decides_the_draws() -> None:
    even = torch.ones(100, 4)
    assert torch.equal(Chance(3).categorical(even), Chance(3).categorical(even))
    assert not torch.equal(Chance(3).categorical(even), Chance(4).categorical(even))


def mixed(state: int) -> int:
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


def reference(seed: int, key: int, position: int, token: int) -> float:
    """Return the noise in Python's integers: SplitMix64 over seed, key, position, then token."""
    golden = 0x9E3779B97F4A7C15
    state = seed
    for part in (key, position):
        state = mixed((state + golden) % WORD) + part
    state = mixed((state + golden) % WORD)
    bits = mixed((state + token * golden) % WORD) >> 12
    return -math.log(-math.log((bits + 0.5) / 2**52))


def test_splitmix_is_the_published_one() -> None:
    # The first outputs for seed 1234567, as its author's reference program prints them.
    golden = 0x9E3779B97F4A7C15
    numbers = [mixed((1234567 + count * golden) % WORD) for count in (1, 2, 3)]
    assert numbers == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(
    seed=st.integers(0, 2**63 - 1),
    keys=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
    position=st.integers(0, 2**40),
)
def test_noise_is_the_function_that_it_says(seed: int, keys: list[int], position: int) -> None:
    positions = torch.tensor([[position, position + 1]] * len(keys))
    noise = Chance(seed).gumbel(torch.tensor(keys), positions, 5)
    wanted = [[[reference(seed, key, position + n, token) for token in range(5)] for n in range(2)] for key in keys]
    assert noise.dtype == torch.float32
    torch.testing.assert_close(noise.double(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_noise_is_the_same_whatever_it_is_asked_with() -> None:
    chance, keys = Chance(9), torch.tensor([3, -8, request_key("x")])
    positions = torch.arange(12).expand(3, -1)
    whole = chance.gumbel(keys, positions, 1001)
    assert torch.equal(chance.gumbel(keys[1:2], positions[1:2, 5:7], 1001), whole[1:2, 5:7])
    assert torch.equal(chance.gumbel(keys.flip(0), positions, 77), whole.flip(0)[..., :77])
    chance.categorical(torch.ones(5, 5))
    assert torch.equal(chance.gumbel(keys, positions, 1001), whole)


@pytest.mark.parametrize("axis", ["seed", "key", "position", "token"])
def test_neighbours_share_no_noise(axis: str) -> None:
    size = 4000
    keys, positions = torch.arange(size), torch.zeros(size, 1, dtype=torch.int64)
    noise = {
        "seed": lambda: torch.stack([Chance(seed).gumbel(keys[:1], positions[:1], 1)[0, 0, 0] for seed in range(500)]),
        "key": lambda: Chance(0).gumbel(keys, positions, 1)[:, 0, 0],
        "position": lambda: Chance(0).gumbel(keys[:1], keys[None], 1)[0, :, 0],
        "token": lambda: Chance(0).gumbel(keys[:1], positions[:1], size)[0, 0],
    }[axis]()
    uniform = torch.exp(-torch.exp(-noise.double()))
    assert fits(torch.bincount((uniform * 20).long(), minlength=20).double(), torch.full((20,), 0.05))
    pairs = (uniform[:-1] * 4).long() * 4 + (uniform[1:] * 4).long()
    assert fits(torch.bincount(pairs, minlength=16).double(), torch.full((16,), 1 / 16))


class ClaimingDrafter(NoisyDrafter):
    """Draw with the coupled noise, and tell what was drawn from."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        draft = super().propose(context, chance)
        return Draft(draft.tokens, draft.lengths, self._q[context.anchors][:, None].expand(*draft.tokens.shape, -1))


@pytest.mark.parametrize("make", thorough_but([Rejection], [Coupled, Rejection]))
def test_noise_cannot_be_enumerated_but_counted(make: Callable[[], Verifier]) -> None:
    verifier = make()
    # Twelve thousand requests, each with its own noise, against the exact distribution of the oracle.
    target, stop = table_target(5, alphabet="abc"), Stop(3)
    drafter = ClaimingDrafter(random_q(2, 3), 2)
    results = decode_with(target, drafter, [[0]] * 12_000, stop, verifier=verifier, sampling=AT_ONE)
    exact = every_answer(lambda tokens: target.logits(tokens, 1)[0], [0], stop, sampling=AT_ONE)
    assert abs(sum(exact.values()) - 1) < EXACT
    counts = dict.fromkeys(exact, 0)
    for result in results:
        counts[OracleAnswer(result.token_ids, result.finish_reason or "length")] += 1
    assert fits(torch.tensor(list(counts.values())).double(), torch.tensor(list(exact.values()), dtype=torch.float64))


def test_the_count_sees_a_wrong_distribution() -> None:
    drawn = torch.bincount(Chance(1).categorical(PROBABILITIES.expand(40_000, 5)), minlength=5).double()
    assert not fits(drawn, torch.tensor([0.49, 0.31, 0.15, 0.0, 0.05]))
    assert not fits(drawn, torch.tensor([0.55, 0.3, 0.15, 0.0, 0.0]))


def test_without_float64_the_noise_is_coarser_and_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, positions = torch.arange(50), torch.arange(20).expand(50, -1)
    fine = Chance(2).gumbel(keys, positions, 1000)
    monkeypatch.setattr("orthrus.chance.precise", lambda device: torch.float32)
    coarse = Chance(2).gumbel(keys, positions, 1000)
    assert coarse.isfinite().all()
    assert (coarse - fine).abs().median() < 1e-5
