"""Print what a session costs: a request among free rows, prompts of unlike lengths, and a long prompt beside others.

python docs/tools/session_costs.py --config configs/recipes/smollm2-gpu.yaml --out docs/evidence/session-costs.json

Ratios are of medians of rounds that take turns. The last arguments override the config, as everywhere.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orthrus
from orthrus import Decoder, Session, Stop
from orthrus.machine import synchronize, versions


def seconds_of(decoder: Decoder, action: Callable[[], object]) -> float:
    """Return how long an action takes, the device's work included."""
    synchronize(decoder.target.device)
    began = time.perf_counter()
    action()
    synchronize(decoder.target.device)
    return time.perf_counter() - began


def in_turns(decoder: Decoder, rounds: int, **actions: Callable[[], object]) -> dict[str, list[float]]:
    """Return the seconds of each action in each round, after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            seconds = seconds_of(decoder, action)
            if number:
                taken[name].append(seconds)
    return taken


def answer(session: Session, prompts: Sequence[Sequence[int]], stop: Stop, shows: bool = True) -> int:
    """Return how many tokens a session commits for prompts that come at once. shows: text as it comes."""
    for prompt in prompts:
        session.add(prompt, stop=stop, shows=shows)
    return sum(len(event.token_ids) for event in session)


def prompt_of(decoder: Decoder, length: int) -> list[int]:
    """Return a prompt of so many tokens, none of them special in most vocabularies."""
    return [1000 + index * 7919 % (decoder.target.vocabulary_size - 1000) for index in range(length)]


def alone_among_free_rows(decoder: Decoder, rounds: int, tokens: int) -> dict[str, Any]:
    """Return what one request in a session for 64 takes over `generate` at batch 1.

    `shown` makes text as it comes; `at_the_end` makes it when the answer ends, as `generate` does.
    """
    stop = Stop(tokens, min_new_tokens=tokens)
    prompt, plain = prompt_of(decoder, 64), Decoder.of(decoder.target, decoder.drafter, decoder.verifier, stop)
    session = decoder.session(64)
    taken = in_turns(
        decoder,
        rounds,
        generate=lambda: plain.generate([prompt], batch=1),
        shown=lambda: answer(session, [prompt], stop),
        at_the_end=lambda: answer(session, [prompt], stop, shows=False),
    )
    return {"tokens": tokens, **{name: _ratio(taken[name], taken["generate"]) for name in ("shown", "at_the_end")}}


def unlike_prompts(decoder: Decoder, rounds: int, longest: int) -> dict[str, Any]:
    """Return what prompts of very unlike lengths take in one batch over the sum of each alone."""
    prompts = [prompt_of(decoder, length) for length in (longest, 1, 2)]
    plain = Decoder.of(decoder.target, decoder.drafter, decoder.verifier, Stop(1))
    taken = in_turns(
        decoder,
        rounds,
        together=lambda: plain.generate(prompts, batch=3),
        alone=lambda: [plain.generate([prompt], batch=1) for prompt in prompts],
    )
    return {"prompt_tokens": [longest, 1, 2], **_ratio(taken["together"], taken["alone"])}


def beside_a_long_prompt(decoder: Decoder, longest: int, tokens: int) -> dict[str, Any]:
    """Return the longest wait between two events of a request while a long prompt comes, with and without chunks."""
    waits = {}
    for interleaves in (False, True, False, True):
        session = decoder.session(2, interleaves=interleaves)
        session.add(prompt_of(decoder, 16), id="short", stop=Stop(tokens, min_new_tokens=tokens))
        before, gaps = time.perf_counter(), []
        for number, event in enumerate(session):
            if number == tokens // 4:
                session.add(prompt_of(decoder, longest), id="long", stop=Stop(1))
            if event.id == "short":
                gaps.append(time.perf_counter() - before)
                before = time.perf_counter()
        waits[interleaves] = max(gaps[tokens // 4 :])
    return {
        "prompt_tokens": longest,
        "longest_wait_ms": round(1000 * waits[False], 2),
        "interleaved_ms": round(1000 * waits[True], 2),
    }


def _ratio(mine: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    rounds = sorted(time / base for time, base in zip(mine, other, strict=True))
    return {
        "ratio": round(statistics.median(mine) / statistics.median(other), 3),
        "rounds": [round(ratio, 3) for ratio in rounds],
        "seconds": round(statistics.median(mine), 4),
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--longest", type=int, default=20_000, help="tokens of the long prompt")
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    decoder = orthrus.load(arguments.config, dotted=arguments.overrides)
    costs = {
        "config": str(arguments.config),
        "overrides": arguments.overrides,
        **versions(decoder.target.device),
        "alone_among_free_rows": alone_among_free_rows(decoder, arguments.rounds, arguments.tokens),
        "unlike_prompts": unlike_prompts(decoder, arguments.rounds, arguments.longest),
        "beside_a_long_prompt": beside_a_long_prompt(decoder, arguments.longest, 2 * arguments.tokens),
    }
    text = json.dumps(costs, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
