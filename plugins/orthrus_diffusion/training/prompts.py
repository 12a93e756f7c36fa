"""The stage `prompts`: what the model is to answer. By default it writes the prompts itself, after the header of a
user's turn, so that no data set is needed and the view sees what the model likes to talk about.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from orthrus import InputError, Tokenizer, read_prompts
from orthrus.files import write_whole
from orthrus.optional import TrainableTarget
from orthrus.progress import bar
from orthrus_diffusion.training.decontamination import Contamination
from orthrus_diffusion.training.metrics_log import Records
from orthrus_diffusion.training.session import TrainingSession, read_claim
from orthrus_diffusion.training.work_sharing import begin_turns, end_turns

PART = 8192  # prompts of a file; what is lost by an interruption


def make_prompts(run: TrainingSession) -> None:
    """Write `prompts.jsonl`, and `held-out.jsonl` for eval if it has no files of its own; done ones are not redone."""
    directory = run.out / "prompts"
    target = run.target()
    if run.prompts.sampled:
        user_header(target.tokenizer)  # refuses a model that cannot be asked so
    held_out = 0 if run.eval.files else run.eval.prompts
    if run.workers.first:
        if not read_claim(directory):  # what lies outside the directory was made with something else
            for name in ("prompts.jsonl", "held-out.jsonl"):
                (run.out / name).unlink(missing_ok=True)
        run.claim(directory, target, run.prompts, seed=run.training.seed, held_out=held_out)
    run.workers.wait()
    if (run.out / "prompts.jsonl").exists():
        return
    parts = [part_file(directory, part) for part in range(-(-run.prompts.sampled // PART))]
    _sample_parts(run, target, directory, parts)
    if run.workers.first:
        collect_prompts(run, parts, held_out)


def collect_prompts(run: TrainingSession, parts: Sequence[Path], held_out: int) -> None:
    """Write all prompts but those held out, each once."""
    lines = (line for file in parts for line in file.read_text(encoding="utf-8").splitlines())
    sampled = _distinct(json.loads(line)["prompt"] for line in lines)
    given = [record.text for name in run.prompts.files for record in read_prompts(Path(name).expanduser())]
    every = _without_avoided(run, _distinct([*sampled, *given]))
    if every and len(every) <= held_out:
        raise InputError(
            f"there are {len(every)} prompts, of which eval holds out {held_out}; set eval.prompts lower, or eval.files"
        )
    if not every:
        raise InputError(
            "there are no prompts: none of those sampled ended by itself; set prompts.max_new_tokens higher"
        )
    if held_out:
        _write(run.out / "held-out.jsonl", every[:held_out])
    _write(run.out / "prompts.jsonl", every[held_out:])


def _without_avoided(run: TrainingSession, prompts: list[str]) -> list[str]:
    """Return the prompts that repeat none of those to measure with, and tell how many did."""
    if not run.prompts.avoid:
        return prompts
    avoided = Contamination(
        record.text for name in run.prompts.avoid for record in read_prompts(Path(name).expanduser())
    )
    clean = [prompt for prompt in prompts if prompt not in avoided]
    left_out = f"{len(prompts) - len(clean)} of {len(prompts)} prompts are left out: they repeat some of prompts.avoid"
    if prompts and not clean:
        raise InputError(f"{left_out}; name others in prompts.files, or set prompts.sampled")
    run.notify(left_out)
    return clean


def _sample_parts(run: TrainingSession, target: TrainableTarget, directory: Path, parts: Sequence[Path]) -> None:
    """Let the model write prompts, each part into a file; several processes take turns."""
    records = Records(directory, "part")
    mine = begin_turns(run, records, parts)
    with bar("prompts", len(mine), shown=run.workers.first) as advance:
        for part in mine:
            asked = range(part * PART, min((part + 1) * PART, run.prompts.sampled))
            begun = time.perf_counter()
            sampled = _sample(run, target, part, asked)
            seconds = time.perf_counter() - begun
            _write(parts[part], sampled)
            records.write(part=part, prompts=len(sampled), asked=len(asked), prompts_per_second=len(sampled) / seconds)
            advance(None)
    end_turns(run, records)


def part_file(directory: Path, part: int) -> Path:
    """Return where a part of the sampled prompts is kept."""
    return directory / f"part-{part:05d}.jsonl"


def _sample(run: TrainingSession, target: TrainableTarget, part: int, indices: Iterable[int]) -> list[str]:
    """Return what the model writes in a user's turn: those that end by themselves."""
    options = run.prompts
    decoder = run.decoder(
        target,
        verifier="rejection",
        sampling={"temperature": options.temperature},
        stop={"max_new_tokens": options.max_new_tokens},
        seed=run.training.seed + 1 + part,
    )
    assert target.tokenizer is not None
    header = user_header(target.tokenizer)
    openings = [options.openings[index % len(options.openings)] for index in indices]
    begun = {opening: [*header, *opening_tokens(target.tokenizer, opening)] for opening in set(openings)}
    results = decoder.generate([begun[opening] for opening in openings], batch=options.batch)
    pairs = zip(openings, results, strict=True)
    return [opening + result.text for opening, result in pairs if result.finish_reason == "stop_token"]


def user_header(tokenizer: Tokenizer | None) -> list[int]:
    """Return the tokens before the text of a user's turn: what two chats begin with; InputError without a template."""
    assert tokenizer is not None  # TrainingSession.target() sees to it
    try:
        first, second = tokenizer.encode("a", chat=True), tokenizer.encode("Z", chat=True)
    except InputError as error:
        reason = str(error).partition(";")[0]  # what follows it helps with other commands
        raise InputError(
            f"{reason}, so a user's turn cannot be written; put a chat_template.jinja beside the model's weights, or"
            " set prompts.sampled=0 and prompts.files"
        ) from error
    return _common(first, second)


def opening_tokens(tokenizer: Tokenizer, opening: str) -> list[int]:
    """Return the tokens of a text without those that a tokenizer puts before any text."""
    if not opening:
        return []
    tokens = tokenizer.encode(opening, chat=False)
    special = _common(tokenizer.encode("a", chat=False), tokenizer.encode("Z", chat=False))
    return tokens[len(_common(special, tokens)) :]  # a space before both letters may be joined to the opening


def _common(first: Sequence[int], second: Sequence[int]) -> list[int]:
    same = [a == b for a, b in zip(first, second, strict=False)]
    return list(first[: same.index(False)] if False in same else first[: len(same)])


def _distinct(texts: Iterable[str]) -> list[str]:
    stripped = (text.strip() for text in texts)
    return list(dict.fromkeys(text for text in stripped if text and "\ufffd" not in text))


def _write(file: Path, texts: Sequence[str]) -> None:
    lines = (json.dumps({"id": str(index), "prompt": text}) for index, text in enumerate(texts))
    write_whole(file, "".join(f"{line}\n" for line in lines))
