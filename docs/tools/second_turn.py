"""Print how soon the second turn of a dialogue has its first token, over its first turn.

python docs/tools/second_turn.py --config configs/recipes/smollm2-paged.yaml cache.prefixes=1024

The first turn is a prompt of random tokens, another one each round; the second one is that prompt, its answer, and a
short question. The last arguments override the config, as everywhere.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orthrus
from orthrus import Decoder, Result, Stop
from orthrus.machine import versions

ANSWER, QUESTION = 32, 30  # tokens


def drawn(decoder: Decoder, seed: int, count: int) -> list[int]:
    """Return random tokens, none of them special in most vocabularies."""
    chooser = random.Random(seed)
    return [chooser.randrange(1000, decoder.target.vocabulary_size) for _ in range(count)]


def turn(decoder: Decoder, prompt: Sequence[int]) -> Result:
    """Return the answer to a prompt, as long as it may be."""
    session = Decoder.of(decoder.target, decoder.drafter, decoder.verifier, Stop(ANSWER, ANSWER)).session(1)
    session.add(prompt)
    [result] = [event.result for event in session if event.result is not None]
    return result


def two_turns(decoder: Decoder, seed: int, tokens: int) -> tuple[Result, Result]:
    """Return the results of both turns of a dialogue."""
    first = turn(decoder, drawn(decoder, seed, tokens))
    return first, turn(decoder, [*first.prompt_token_ids, *first.token_ids, *drawn(decoder, -seed, QUESTION)])


def measured(decoder: Decoder, rounds: int, tokens: int) -> dict[str, Any]:
    """Return the medians of rounds, after one of short prompts that does not count."""
    two_turns(decoder, rounds + 1, 64)
    turns = [two_turns(decoder, seed, tokens) for seed in range(1, rounds + 1)]
    seconds = [[result.measures.ttft_seconds or 0.0 for result in pair] for pair in turns]
    return {
        "prompt_tokens": [len(result.prompt_token_ids) for result in turns[0]],
        "restored_tokens": [result.restored_tokens for result in turns[0]],
        "first_ttft_seconds": round(statistics.median(first for first, _ in seconds), 4),
        "second_ttft_seconds": round(statistics.median(second for _, second in seconds), 4),
        "second_over_first": round(statistics.median(second / first for first, second in seconds), 4),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=4000, help="tokens of the first prompt")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    decoder = orthrus.load(arguments.config, dotted=arguments.overrides)
    costs = measured(decoder, arguments.rounds, arguments.tokens)
    facts = {"config": str(arguments.config), "overrides": arguments.overrides, **versions(decoder.target.device)}
    print(json.dumps({**facts, **costs}, indent=1))


if __name__ == "__main__":
    main()
