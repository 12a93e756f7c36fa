r"""Speeds of two checkouts of this project on the same prompts, in turns: what a change of the code gains.

    python docs/tools/compare_builds.py --config configs/recipes/smollm2-diffusion-gpu.yaml --prompts mt_bench.jsonl \
        --build old=../before --build new=. --case 'old:plain={name: none}' --case 'new:plain@old:plain={name: none}' \
        --case 'new:tree@old:plain={name: diffusion, tree: 31}' --out RECORD.json

A build is a checkout, run by the same Python: what it imports must fit both. A case is a drafter of a build, and behind
`@` the case that its speed is held against. Each build has a process; one case after another answers all prompts, each
round anew. The last build encodes the prompts, so that all get the same tokens. The record has the tokens a second of
each round, tokens per cycle, the ratios of rounds, and how many texts are those of the case it is held against.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer


@dataclass(frozen=True)
class Case:
    """A drafter of a build, and the case that it is held against: its own name, of one that is held against none."""

    build: str
    name: str
    against: str
    drafter: str

    @classmethod
    def read(cls, text: str) -> Case:
        """Return the case of `BUILD:NAME[@BUILD:NAME]=DRAFTER`; raise BadParameter for another text."""
        head, equals, drafter = text.partition("=")
        name, _, against = head.partition("@")
        build, colon, _ = name.partition(":")
        if not (equals and colon and drafter):
            raise typer.BadParameter(f"'{text}' is no case: BUILD:NAME=DRAFTER, or BUILD:NAME@BUILD:NAME=DRAFTER")
        return cls(build, name, against or name, drafter)


@dataclass(frozen=True)
class Run:
    """Answers of a case to all prompts."""

    seconds: float
    texts: Sequence[Sequence[int]]
    cycles: int

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return sum(map(len, self.texts)) / self.seconds


class Build:
    """A process that imports one checkout and answers line by line."""

    def __init__(self, name: str, checkout: Path) -> None:
        self._folder = tempfile.TemporaryDirectory()
        name_plugins(checkout, Path(self._folder.name))
        paths = [self._folder.name, str(checkout), str(checkout / "plugins"), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [sys.executable, str(Path(__file__).resolve()), "--worker"]
        self._name, pipe = name, subprocess.PIPE
        self._process = subprocess.Popen(  # this program itself
            command, cwd=checkout, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1
        )

    def ask(self, **question: Any) -> Any:
        """Return the answer to a question; exit if the process has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None, "they are pipes"
        self._process.stdin.write(json.dumps(question) + "\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the build '{self._name}' ended; what it said stands above")
        return json.loads(answer)

    def run(self, case: Case, prompts: Sequence[Sequence[int]], batch: int) -> Run:
        """Return the answers of a case."""
        return Run(**self.ask(do="run", case=case.name, prompts=prompts, batch=batch))


def name_plugins(checkout: Path, folder: Path) -> None:
    """Describe a checkout as an installed package, so that its own plugins are found and not those of another build."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    described = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    described.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (described / "METADATA").write_text(metadata, encoding="utf-8")
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {module}" for name, module in names.items())])
        for group, names in project["entry-points"].items()
    ]
    (described / "entry_points.txt").write_text("\n".join(groups) + "\n", encoding="utf-8")


def work() -> None:
    """Answer questions from standard input: load cases, encode prompts, run a case."""
    import torch

    import orthrus

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    decoders: dict[str, Any] = {}
    for line in sys.stdin:
        question = json.loads(line)
        answer: Any = None
        if question["do"] == "load":
            dotted = [*question["dotted"], f"drafter={question['drafter']}"]
            decoder = decoders[question["case"]] = orthrus.load(question["config"], dotted=dotted)
            on_gpu = decoder.target.device.type == "cuda"
            device = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
            answer = {"device": device, "dtype": str(decoder.target.dtype), "torch": torch.__version__}
        elif question["do"] == "encode":
            from orthrus.prompts import encode  # earlier builds, which are not asked, have it elsewhere

            target = next(iter(decoders.values())).target
            answer = [encode(target, text) for text in question["texts"]]
        else:
            decoder, batch = decoders[question["case"]], question["batch"]
            groups = [question["prompts"]] if batch > 1 else [[prompt] for prompt in question["prompts"]]
            wait()
            begun = time.perf_counter()
            results = [result for group in groups for result in decoder.generate(group, batch=batch)]
            wait()
            seconds = time.perf_counter() - begun
            texts = [list(result.token_ids) for result in results]
            answer = {"seconds": seconds, "texts": texts, "cycles": sum(map(cycles_of, results))}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def cycles_of(result: Any) -> int:
    """Return how many cycles an answer took; earlier builds have a list of them."""
    measures = result.measures
    return int(measures.cycles if hasattr(measures, "cycles") else len(measures.accepted_per_cycle))


def row(case: Case, runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Return what the record has of a case."""
    mine, others = runs[case.name], runs[case.against]
    last, other = mine[-1], others[-1]
    ratios = [run.rate / base.rate for run, base in zip(mine, others, strict=True)]
    return {
        "case": case.name,
        "drafter": case.drafter,
        "tokens_per_second": [round(run.rate, 1) for run in mine],
        "tokens_per_cycle": round(sum(map(len, last.texts)) / max(1, last.cycles), 3),
        "against": case.against,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "same_texts": sum(text == wanted for text, wanted in zip(last.texts, other.texts, strict=True)),
    }


def main(
    config: Annotated[str, typer.Option(help="a config, within every checkout")],
    prompts: Annotated[Path, typer.Option(help="a JSONL file of prompts")],
    build: Annotated[list[str], typer.Option(help="NAME=CHECKOUT; the last encodes the prompts")],
    case: Annotated[list[str], typer.Option(help="BUILD:NAME=DRAFTER, or BUILD:NAME@BUILD:NAME=DRAFTER")],
    out: Annotated[Path, typer.Option(help="the record")],
    limit: Annotated[list[int] | None, typer.Option(help="prompts; again for a run of another number")] = None,
    tokens: Annotated[int, typer.Option(help="the most of each answer")] = 256,
    rounds: int = 4,
    batch: int = 1,
) -> None:
    """Measure the cases, and write the record."""
    from orthrus import read_prompts

    cases = [Case.read(text) for text in case]
    names = {each.name for each in cases}
    builds = {name: Build(name, Path(path)) for name, _, path in (text.partition("=") for text in build)}
    if wrong := [each.name for each in cases if each.build not in builds or each.against not in names]:
        raise typer.BadParameter(f"'{wrong[0]}' is of a build, or held against a case, that is not given")
    for each in cases:
        load = {"case": each.name, "config": config, "drafter": each.drafter}
        facts = builds[each.build].ask(do="load", dotted=[f"stop.max_new_tokens={tokens}"], **load)
    limits = limit or [40]
    texts = [record.text for record in read_prompts(prompts, max(limits))]
    token_ids = builds[cases[-1].build].ask(do="encode", texts=texts)
    rows = []
    for count in limits:
        runs: dict[str, list[Run]] = {each.name: [] for each in cases}
        for number in range(rounds + 1):  # the first captures, compiles and tunes
            for each in cases:
                run = builds[each.build].run(each, token_ids[:count], batch)
                if number:
                    runs[each.name].append(run)
        rows += [{"limit": count, **row(each, runs)} for each in cases]
    for line in rows:
        typer.echo(json.dumps(line))
    settings = {"config": config, "prompts": prompts.name, "max_new_tokens": tokens, "batch": batch}
    out.write_text(json.dumps({**facts, **settings, "cases": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    work() if sys.argv[1:] == ["--worker"] else typer.run(main)
