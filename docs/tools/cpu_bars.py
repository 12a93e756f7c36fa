"""Measure decoding on a CPU against an older build and other programs, prompt by prompt, in runs that can be cut short.

python docs/tools/cpu_bars.py --prompts mt_bench.jsonl --threads 1 --state build/cpu-1.jsonl --old FOLDER --onnx FOLDER

All subjects answer the same token ids, in turns; a ratio is of one prompt. Each answer is a line of the state file, so
that the same command goes on where it was left; `--seconds` ends a run in good time. `--old` names the folder of the
older build, which has an environment of its own in `.venv`. Beside the prompts there is a prefill of 512 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpu_engines import LLAMA, ONNX, Worker

OLD = "old"
PREFILL = 512
PREFILLS = 5  # how often it is measured
PAIRS = (  # what is held against what
    ("native-gguf", OLD),
    ("native-gguf", LLAMA),
    ("native", ONNX),
    ("native", OLD),
    *((drafted, "native-gguf") for drafted in ("suffix-gguf", "lookup-gguf", "view-gguf", "cascade-gguf")),
)


def requests(arguments: argparse.Namespace) -> Iterator[tuple[str, Sequence[int] | int, int]]:
    """Yield each request's name, its prompt and how many tokens are asked for."""
    import orthrus

    lines = Path(arguments.prompts).read_text(encoding="utf-8").splitlines()[: arguments.limit]
    decoder = orthrus.load("configs/recipes/smollm2-plain.yaml", dotted=["target.dtype=gguf"])
    for number, line in enumerate(lines):
        record = json.loads(line)
        yield str(record.get("id", number)), decoder.encode(record["prompt"]), arguments.tokens
    for number in range(PREFILLS):
        yield f"prefill {number}", PREFILL, 2


def start(subject: str, arguments: argparse.Namespace) -> Worker:
    """Return the process of a subject."""
    if subject == OLD:
        folder = Path(arguments.old).resolve()
        return Worker("auto", arguments.threads, str(folder / ".venv" / "bin" / "python"), folder)
    if subject == ONNX:
        os.environ["ONNX_FOLDER"] = str(Path(arguments.onnx).resolve())
    return Worker(subject, arguments.threads, arguments.llama if subject == LLAMA else sys.executable)


def read(state: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the answers so far, by subject and request."""
    lines = state.read_text(encoding="utf-8").splitlines() if state.is_file() else []
    answers = [json.loads(line) for line in lines]
    return {(answer["subject"], answer["request"]): answer for answer in answers}


def measure(subjects: Sequence[str], arguments: argparse.Namespace) -> bool:
    """Ask for what is not answered yet, until the time is up; return whether all is."""
    ends, answers = time.monotonic() + arguments.seconds, read(arguments.state)
    asked = list(requests(arguments))
    workers: dict[str, Worker] = {}
    arguments.state.parent.mkdir(parents=True, exist_ok=True)
    with arguments.state.open("a", encoding="utf-8") as state:
        for number, (name, prompt, tokens) in enumerate(asked):
            for index in range(len(subjects)):
                subject = subjects[(number + index) % len(subjects)]
                if (subject, name) in answers:
                    continue
                if time.monotonic() > ends:
                    return _end(workers, False)
                if subject not in workers:
                    workers[subject] = start(subject, arguments)
                    workers[subject].ask(PREFILL // 4, 4)  # does not count
                said = workers[subject].ask(prompt, tokens, arguments.ends and not _is_prefill(name))
                state.write(json.dumps({"subject": subject, "request": name, "asked": tokens, **said}) + "\n")
                state.flush()
    return _end(workers, True)


def _end(workers: Mapping[str, Worker], complete: bool) -> bool:
    for worker in workers.values():
        worker.end()
    return complete


Answers = Mapping[tuple[str, str], Mapping[str, Any]]  # by subject and request


def summary(answers: Answers) -> dict[str, Any]:
    """Return speeds, memory and the ratios of pairs: median, lowest and highest over prompts."""
    subjects = list(dict.fromkeys(subject for subject, _ in answers))
    return {
        "subjects": {subject: _of_subject(answers, subject) for subject in subjects},
        "ratios": {
            f"{subject} over {base}": _ratios(answers, subject, base)
            for subject, base in PAIRS
            if subject in subjects and base in subjects
        },
    }


def _of_subject(answers: Answers, subject: str) -> dict[str, Any]:
    own = {name: answer for (other, name), answer in answers.items() if other == subject}
    return {
        "tokens_per_second": spread([_speed(answer) for name, answer in own.items() if not _is_prefill(name)]),
        "prefill_seconds": spread([answer["first"] for name, answer in own.items() if _is_prefill(name)]),
        "peak_mib": round(max(answer["peak_mib"] for answer in own.values())),
        "torch_mib": next((answer.get("torch_mib") for answer in own.values()), None),
    }


def _ratios(answers: Answers, subject: str, base: str) -> dict[str, Any]:
    """Return how much faster a subject is than another one, of what both have answered."""
    names = [name for other, name in answers if other == subject and (base, name) in answers]
    both = {name: (answers[subject, name], answers[base, name]) for name in names}
    decoded = [pair for name, pair in both.items() if not _is_prefill(name)]
    prefills = [pair for name, pair in both.items() if _is_prefill(name)]
    seconds = [sum(pair[index]["rest"] for pair in decoded) for index in (0, 1)]
    return {
        "prompts": len(decoded),
        "speed": spread([_speed(own) / _speed(other) for own, other in decoded]),
        "speed_in_all": round(seconds[1] / seconds[0], 3) if decoded else None,
        "prefill": spread([other["first"] / own["first"] for own, other in prefills]),
        "same_texts": sum(own["tokens"] == other["tokens"] for own, other in decoded),
    }


def _is_prefill(name: str) -> bool:
    return name.startswith("prefill ")


def _speed(answer: Mapping[str, Any]) -> float:
    return (len(answer["tokens"]) - 1) / float(answer["rest"]) if answer["tokens"] else answer["asked"] / answer["rest"]


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Return the median, lowest and highest of some values; None: there are none."""
    if not values:
        return None
    digits = [round(value, 3) for value in (statistics.median(values), min(values), max(values))]
    return dict(zip(("median", "lowest", "highest"), digits, strict=True))


def main() -> None:
    """Measure for a while, print what is known so far, and write it once all is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", required=True, help="a prompts file")
    parser.add_argument("--limit", type=int, default=20, help="how many prompts of it")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each")
    parser.add_argument("--ends", action="store_true", help="let answers end where the model ends them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", type=Path, required=True, help="where answers are kept")
    parser.add_argument("--seconds", type=float, default=3600.0, help="after which no other answer is asked for")
    parser.add_argument("--subjects", default="native-gguf,native,suffix-gguf,lookup-gguf,view-gguf")
    parser.add_argument("--old", help="the folder of an older build, with its environment in .venv")
    parser.add_argument("--onnx", help="a folder that the package's builder wrote; it needs onnxruntime-genai here")
    parser.add_argument("--llama", help="a Python with xllamacpp")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    others = {OLD: arguments.old, ONNX: arguments.onnx, LLAMA: arguments.llama}
    subjects = [*(name for name, given in others.items() if given), *arguments.subjects.split(",")]
    complete = measure(subjects, arguments)
    text = json.dumps(
        {
            "threads": arguments.threads,
            "tokens": arguments.tokens,
            "ends": arguments.ends,
            **summary(read(arguments.state)),
        },
        indent=1,
    )
    print(text if complete else f"{text}\nnot all is answered yet: run it again")
    if complete and arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
