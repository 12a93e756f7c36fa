"""What tests of sampling share: drafters that really draw, settings, and decoding that is held to the oracles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orthrus import Chance, Context, Decoder, Draft, Drafter, Sampling, Step, Stop, Target, Verifier
from orthrus.chance import request_key
from orthrus.testing import OracleAnswer, every_answer, every_decoding, greedy, largest_difference, sample, together

EXACT = 1e-12
AT_ONE = Sampling(temperature=1.0)


class DrawingDrafter:
    """Draw each token from q [V, V], the row of the token before it, and say so; every other row drafts one less."""

    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(self, q: Tensor, length: int, reported: Tensor | None = None, ragged: bool = False) -> None:
        self._q = q
        self._length = length
        self._reported = q if reported is None else reported
        self._ragged = ragged

    def start(self, context: Context, rows: Sequence[int]) -> None:
        pass

    def propose(self, context: Context, chance: Chance) -> Draft:
        width = min(self._length, context.max_room)
        before, tokens = context.anchors, []
        for _ in range(width):
            tokens.append(before := self.choose(chance, self._q[before]))
        drafted = torch.stack(tokens, dim=1) if tokens else context.tokens[:, :0]
        previous = torch.cat([context.anchors[:, None], drafted], dim=1)[:, :-1]
        fewer = torch.arange(len(context.rows)) % 2 if self._ragged else 0
        lengths = torch.minimum(context.room, torch.full_like(context.room, width) - fewer).clamp(min=0)
        return Draft(drafted, lengths, self._reported[previous])

    def choose(self, chance: Chance, probabilities: Tensor) -> Tensor:
        return chance.categorical(probabilities)

    def observe(self, step: Step) -> None:
        pass


class ChosenDrafter(DrawingDrafter):
    """Choose the likeliest token, and say that nothing was drawn."""

    def choose(self, chance: Chance, probabilities: Tensor) -> Tensor:
        return probabilities.argmax(-1)

    def propose(self, context: Context, chance: Chance) -> Draft:
        draft = super().propose(context, chance)
        return Draft(draft.tokens, draft.lengths)


class NoisyDrafter(DrawingDrafter):
    """Draw with the noise that a coupled verifier uses, from logits of its own."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        width = min(self._length, context.max_room)
        positions = context.lengths[:, None] + torch.arange(width)
        noise = chance.gumbel(context.keys, positions, context.vocabulary_size)
        tokens = (self._q.log()[context.anchors][:, None] + noise).argmax(-1)
        return Draft(tokens, context.room.clamp(max=width))


def random_q(seed: int, vocabulary: int, zeros: bool = False) -> Tensor:
    """Return distributions [V, V], some of them without mass in places."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.rand(vocabulary, vocabulary, generator=generator, dtype=torch.float64)
    if zeros:
        q = q * (torch.rand(vocabulary, vocabulary, generator=generator) < 0.6)
        q[:, 0] += (q.sum(-1) == 0).double()
    return q / q.sum(-1, keepdim=True)


def distribution_error(
    target: Target,
    drafter: Callable[[], Drafter],
    verifier: Verifier,
    prompts: Sequence[Sequence[int]],
    stop: Stop,
    sampling: Sampling,
    batch: int | None = None,
) -> float:
    """Return by how much the decoder's distribution differs from the oracle's at most."""
    decodings = every_decoding(target, drafter, verifier, prompts, stop, sampling, batch)
    decode = target.tokenizer.decode if target.tokenizer else None
    wanted = together(
        [
            every_answer(lambda tokens: target.logits(tokens, 1)[0], prompt, stop, sampling=sampling, decode=decode)
            for prompt in prompts
        ]
    )
    return largest_difference(decodings, wanted)


def coupled_answers(
    target: Target, prompts: Sequence[Sequence[int]], stop: Stop, sampling: Sampling, seed: int, ids: Sequence[str]
) -> list[OracleAnswer]:
    """Return the samples that the oracle takes with the noise of this seed and these ids."""
    decode = target.tokenizer.decode if target.tokenizer else None
    chance = Chance(seed)

    def answer(prompt: Sequence[int], id: str) -> OracleAnswer:
        key = torch.tensor([request_key(id)])

        def noise(position: int) -> Tensor:
            return chance.gumbel(key, torch.tensor([[position]]), target.vocabulary_size)[0, 0]

        def logits(tokens: list[int]) -> Tensor:
            return target.logits(tokens, 1)[0]

        length = target.max_length
        return sample(logits, prompt, stop, noise, sampling=sampling, max_length=length, decode=decode)

    return [answer(prompt, id) for prompt, id in zip(prompts, ids, strict=True)]


def greedy_answers(
    target: Target, prompts: Sequence[Sequence[int]], stop: Stop, sampling: Sampling
) -> list[OracleAnswer]:
    """Return what the oracle decodes greedily, under penalties, bias and bad words."""
    decode = target.tokenizer.decode if target.tokenizer else None
    return [
        greedy(lambda tokens: target.logits(tokens, 1)[0], prompt, stop, sampling=sampling, decode=decode)
        for prompt in prompts
    ]


def decoded(
    target: Target,
    drafter: Drafter,
    verifier: Verifier,
    prompts: Sequence[Sequence[int]],
    stop: Stop,
    sampling: Sampling,
    seed: int = 0,
    batch: int = 8,
    ids: Sequence[str] | None = None,
) -> list[OracleAnswer]:
    """Return what a decoder answers."""
    decoder = Decoder.of(target, drafter, verifier, stop, seed, sampling)
    results = decoder.generate(prompts, batch=batch, ids=ids)
    return [OracleAnswer(result.token_ids, result.finish_reason or "length") for result in results]
