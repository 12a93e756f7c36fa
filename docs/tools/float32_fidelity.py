"""Print how close a 16-bit model's decoding comes to float32's: shares of positions and of texts.

python docs/tools/float32_fidelity.py --config configs/recipes/smollm2-gpu.yaml --prompts mt_bench.jsonl --batch 64

The config is decoded in float32 first. Its answers are then followed in the own dtype, token by token, and each
position counts at which the argmax is the answer's token; at last the config is decoded by itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import orthrus
from orthrus import Chance, Context, Decoder, Draft, Result, Step, Verdict
from orthrus.machine import versions

BLOCK = 8  # tokens of an answer that a pass follows


class GivenAnswers:
    """A drafter and verifier in one: follows given answers, and counts the tokens that the target would have said."""

    needs = frozenset({"logits"})
    learns, greedy, name = False, True, "given"

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        self._answers = answers
        self._agreed: list[Tensor] = []
        self.positions = 0

    @property
    def agreed(self) -> int:
        """At how many positions the target's argmax is the answer's token."""
        return sum(int(count) for count in self._agreed)

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Nothing is kept of a row."""

    def observe(self, step: Step) -> None:
        """Nothing is learned."""

    def _next(self, context: Context, count: int) -> Tensor:
        """Return the answers' next tokens [B, count], -1 where there are none."""
        parts = [
            list(self._answers[row.request][len(row.output) :][:count]) if row.live else [] for row in context.rows
        ]
        return torch.tensor([part + [-1] * (count - len(part)) for part in parts], device=context.device)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return the answers' next tokens but the last, which is the bonus token."""
        tokens = self._next(context, min(BLOCK, max(1, context.max_room)))[:, :-1]
        return Draft(tokens.clamp(min=0), (tokens >= 0).sum(1).minimum((context.room - 1).clamp(min=0)))

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Keep the answers' tokens, whatever the logits say."""
        answers = self._next(context, draft.tokens.shape[1] + 1)  # [B, n + 1]
        inside = torch.arange(answers.shape[1], device=answers.device) <= draft.lengths[:, None]
        inside &= answers >= 0
        if any(row.live and not row.output for row in context.rows):  # a prefill, of those rows alone
            fresh = [row.live and not row.output for row in context.rows]
            inside &= torch.tensor(fresh, device=answers.device)[:, None]
        self._agreed.append(((logits.argmax(-1) == answers) & inside).sum())
        self.positions += int(inside.sum())
        return Verdict(draft.lengths, answers.gather(1, draft.lengths[:, None])[:, 0].clamp(min=0))


def followed(decoder: Decoder, answers: Sequence[Result], batch: int) -> GivenAnswers:
    """Return what was counted while the answers were followed."""
    given = GivenAnswers([answer.token_ids for answer in answers])
    results = replace(decoder, drafter=given, verifier=given).generate(
        [answer.prompt_token_ids for answer in answers], batch=batch
    )
    assert [result.token_ids for result in results] == [answer.token_ids for answer in answers], "they were followed"
    return given


def main() -> None:
    """Decode, follow, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, action="append", required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=int, help="prompts of each file")
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    prompts = [prompt for path in arguments.prompts for prompt in _prompts(path)[: arguments.limit]]
    wide = orthrus.load(arguments.config, dotted=[*arguments.overrides, "target.dtype=float32"])
    answers = wide.generate(prompts, batch=arguments.batch)
    del wide
    decoder = orthrus.load(arguments.config, dotted=arguments.overrides)
    given = followed(decoder, answers, arguments.batch)
    results = decoder.generate(prompts, batch=arguments.batch)
    identical = sum(result.token_ids == answer.token_ids for result, answer in zip(results, answers, strict=True))
    facts: dict[str, Any] = {
        "config": str(arguments.config),
        "overrides": arguments.overrides,
        "batch": arguments.batch,
        **versions(decoder.target.device),
        "prompts": len(prompts),
        "positions": given.positions,
        "float32_argmax": given.agreed,
        "float32_argmax_share": round(given.agreed / given.positions, 5),
        "identical_texts": identical,
        "identical_share": round(identical / len(prompts), 4),
    }
    text = json.dumps(facts, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def _prompts(path: Path) -> list[str]:
    return [json.loads(line)["prompt"] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


if __name__ == "__main__":
    main()
