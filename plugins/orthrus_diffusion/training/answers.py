"""The stage `answers`: the frozen model answers the prompts, through the engine's continuous rows. That the view learns
from the model's own answers matters more than anything else (the paper's section 4).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from orthrus import Decoder, InputError, read_prompts
from orthrus.files import file_digest
from orthrus.optional import TrainableTarget
from orthrus.progress import bar
from orthrus_diffusion.training.metrics_log import Records
from orthrus_diffusion.training.session import TrainingSession, read_claim
from orthrus_diffusion.training.shards import write_shard
from orthrus_diffusion.training.work_sharing import begin_turns, end_turns


def make_answers(run: TrainingSession) -> None:
    """Write the shards that are not there yet; several processes take turns. Raises InputError without prompts."""
    file = run.out / "prompts.jsonl"
    if not file.exists():
        raise InputError(f"there is no '{file}'; run the stage prompts first")
    prompts = [record.text for record in read_prompts(file)]
    groups = [prompts[start : start + run.answers.shard] for start in range(0, len(prompts), run.answers.shard)]
    directory = run.out / "answers"
    target = run.target()
    if run.workers.first:
        digest = file_digest(file)
        run.claim(directory, target, run.answers, prompts=digest, shards=len(groups))
    records = Records(directory, "shard")
    mine = begin_turns(run, records, [shard_file(directory, index) for index in range(len(groups))])
    if mine:
        decoder = _decoder(run, target)
        for index in mine:
            _answer(run, decoder, groups[index], shard_file(directory, index), index, records)
    end_turns(run, records)


def _decoder(run: TrainingSession, target: TrainableTarget) -> Decoder:
    sampled = run.answers.temperature > 0
    return run.decoder(
        target,
        verifier="rejection" if sampled else "consensus",
        sampling={"temperature": run.answers.temperature},
        stop={"max_new_tokens": run.answers.max_new_tokens},
    )


def shards_of(directory: Path) -> int | None:
    """Return how many shards the answers have, or None where that is not noted."""
    shard_count: int | None = read_claim(directory).get("shards")
    return shard_count


def shard_file(directory: Path, index: int) -> Path:
    """Return where a shard is kept."""
    return directory / f"shard-{index:05d}.safetensors"


def _answer(
    run: TrainingSession, decoder: Decoder, prompts: Sequence[str], file: Path, index: int, records: Records
) -> None:
    tokenizer, limit = decoder.target.tokenizer, decoder.target.max_length
    assert tokenizer is not None  # TrainingSession.target() sees to it
    encoded = [tokenizer.encode(prompt) for prompt in prompts]
    most = min(run.answers.max_prompt_tokens, (limit or run.answers.max_prompt_tokens + 1) - 1)
    short = [prompt for prompt in encoded if len(prompt) <= most]
    if len(short) < len(encoded):
        run.notify(
            f"{len(encoded) - len(short)} prompts of shard {index} are left out: they have more than"
            f" answers.max_prompt_tokens={run.answers.max_prompt_tokens} tokens"
        )
    begun = time.perf_counter()
    with bar(f"answers, shard {index}", len(short), shown=run.workers.first) as advance:
        results = decoder.generate(short, batch=run.answers.batch, on_result=advance)
    seconds = time.perf_counter() - begun
    tokens = sum(len(result.token_ids) for result in results)
    texts = [(prompt, result.token_ids) for prompt, result in zip(short, results, strict=True) if result.token_ids]
    write_shard(file, texts, decoder.target.vocabulary_size)
    ended = sum(result.finish_reason == "stop_token" for result in results)
    records.write(
        shard=index,
        answers=len(texts),
        tokens=tokens,
        ended_by_themselves=ended / max(len(results), 1),
        tokens_per_second=tokens / seconds,
    )
