"""`orthrus bench`: what it prints and writes, what it refuses, and what is left after Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.program import PROGRAM, TABLE, InProcess, Outcome
from support.site import Site
from transformers import LlamaConfig, LlamaForCausalLM

from orthrus import load, summarize
from orthrus.bench.results import Run
from orthrus.bench.results_file import read_results, to_json

BENCH = ["bench", "--config", TABLE, "--rounds", "2"]
RANDOM = [*BENCH, "--context", "6"]
SLOW_BASELINE = """
import time
from orthrus import BaselineAnswer, InputError, hookimpl


class Slow:
    def answer(self, prompts, stop):
        time.sleep(0.02)
        return BaselineAnswer(tuple((1, 2) for _ in prompts))


class Refusing:
    def answer(self, prompts, stop):
        if len(prompts) > 1:
            raise InputError("it takes one prompt at a time")
        return BaselineAnswer(((1, 2),))


@hookimpl
def register_baselines(register):
    register("slow", lambda options, parts: Slow())
    register("refusing", lambda options, parts: Refusing())
    register("shapeless", lambda options, parts: object())
"""


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder, and copy a few bytes only to see how fast that is."""
    folder = tmp_path / "somewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("orthrus.bench.bandwidth.CPU_BYTES", 2**16)


@pytest.fixture
def prompts() -> Path:
    file = Path("prompts.jsonl")
    file.write_text("".join(json.dumps({"id": text, "prompt": text}) + "\n" for text in ("abc", "h", "gfe dcb")))
    return file


def runs_of(done: Outcome) -> list[dict[str, Any]]:
    assert done.code == 0, done
    runs: list[dict[str, Any]] = done.json()["runs"]
    return runs


def ratios(drafter: Any) -> list[str]:
    """Return tokens per cycle and the accepted length of one decoder's answers, as the table writes them."""
    results = load(TABLE, drafter=drafter).generate(["abc", "h", "gfe dcb"], batch=1)
    summary = summarize([result.measures for result in results])
    return [
        f"{ratio.pooled:.2f} / {ratio.per_prompt:.2f}" for ratio in (summary.tokens_per_cycle, summary.accepted_length)
    ]


def test_the_table_of_decoders_side_by_side(orthrus: InProcess, prompts: Path) -> None:
    variant = "short: drafter.length=2"
    done = orthrus(*BENCH, "--baseline", "none", "--variant", variant, "--prompts", prompts, "--batch", "1,3")
    assert (done.code, done.err) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if line.startswith("│")]
    assert [row[:2] for row in rows[:6]] == [
        [subject, f"batch {batch}"] for batch in (1, 3) for subject in ("none", TABLE.stem, "short")
    ]
    drafters = ("none", {}, {"length": 2})
    assert [row[4:6] for row in rows[:3]] == [ratios(drafter) for drafter in drafters]
    assert {row[-1] for row in rows[:6]} == {"100.0 %"}
    assert "where the time of a cycle goes, ms" in done.out
    assert len(rows) == 12  # and where the time of a cycle goes, for each
    heads = [[cell.strip() for cell in line.split("┃")[1:-1]] for line in done.out.splitlines() if line.startswith("┃")]
    passes, scores = heads[0].index("pass, ms"), heads[1].index("score")
    assert [row[passes] for row in rows[:6]] == [row[scores] for row in rows[6:]]
    assert "peak" not in done.out and "of bandwidth" not in done.out  # nobody can tell


def test_json_is_what_is_written_and_nothing_else_is_printed(orthrus: InProcess) -> None:
    out = Path("new") / "results.json"
    sweep = ["--sweep", "drafter.length=1,4", "--against", TABLE.stem]
    done = orthrus(*RANDOM, *sweep, "--baseline", "none", "--title", "T", "--note", "N.", "--out", out, "--json")
    assert (done.code, done.err) == (0, "")
    written = read_results(out)
    assert done.out == out.read_text() == to_json(written)
    assert (written.title, written.note) == ("T", "N.")
    assert written.command.startswith("orthrus bench --config ")
    assert written.command.endswith("--title T --note N. --out results.json --json")
    assert written.environment["copy_bandwidth"] > 0
    assert written.environment["torch"] == torch.__version__
    assert written.settings["against"] == TABLE.stem
    assert written.settings["max_new_tokens"] == 64
    assert [(run.label, dict(run.point)) for run in written.runs] == [
        (label, {"batch": 1, "context": 6, "drafter.length": length})
        for length in (1, 4)
        for label in ("none", TABLE.stem)
    ]
    for run in written.runs:
        assert run.tokens_per_second is not None and len(run.tokens_per_second.values) == 2
        assert run.phases is not None and run.identical == 1.0
        assert run.ratio is not None and (run.label != TABLE.stem or set(run.ratio.values) == {1.0})


def test_prompts_of_a_file_are_encoded_as_run_does(orthrus: InProcess, prompts: Path) -> None:
    [run] = runs_of(orthrus(*BENCH, "--prompts", prompts, "--json", "--no-phases", "stop.max_new_tokens=9"))
    assert (run["prompts"], run["new_tokens"], run["phases"]) == (3, 27, None)
    [run] = runs_of(orthrus(*BENCH, "--prompts", prompts, "--limit", 2, "--json", "stop.max_new_tokens=9"))
    assert run["prompts"] == 2


@pytest.mark.thorough
def test_isolated_subjects_are_shown_like_others(orthrus: InProcess) -> None:
    done = orthrus(*RANDOM, "--baseline", "none", "--isolated", "--json", "stop.max_new_tokens=8")
    assert [run["identical"] for run in runs_of(done)] == [1.0, 1.0]
    assert done.json()["settings"]["isolated"] is True
    assert "order" not in done.json()["settings"]


def test_a_name_may_be_swept_beside_something_to_compare_with(orthrus: InProcess) -> None:
    sweep = ["--sweep", "drafter.name=none,prompt_lookup", "--baseline", "none", "--json", "--no-phases"]
    ratios = [run["ratio"]["median"] for run in runs_of(orthrus(*RANDOM, *sweep))]
    assert ratios[0] == ratios[2] == 1.0 != ratios[3]


REFUSED = {
    "no config": (["bench", "--context", "4"], "Missing option '--config' (see orthrus bench --help)"),
    "config is not there": (["bench", "--config", "x.yaml", "--context", "4"], "there is no config file 'x.yaml'"),
    "no prompts": (BENCH, "give either --prompts FILE.jsonl or --context N"),
    "two kinds of prompts": ([*RANDOM, "--prompts", "x"], "give either --prompts FILE.jsonl or --context N"),
    "no prompt file": ([*BENCH, "--prompts", "x.jsonl"], "the prompt file 'x.jsonl' does not exist"),
    "limit of nothing": ([*RANDOM, "--limit", "3"], "--limit and --raw go with --prompts"),
    "raw random tokens": ([*RANDOM, "--raw"], "--limit and --raw go with --prompts"),
    "count of a file": ([*BENCH, "--prompts", "x", "--count", "2"], "--count goes with --context; --limit takes"),
    "count of none": ([*RANDOM, "--count", "0"], "Invalid value for '--count': "),
    "batch of none": (
        [*RANDOM, "--batch", "0"],
        "--batch must be whole numbers from 1 to 10000000, ",
    ),
    "absurd context": ([*BENCH, "--context", "9" * 5000], "--context must be whole numbers from 1 to 10000000"),
    "negative context": (
        [*BENCH, "--context", "-4"],
        "--context must be whole numbers from 1 to 10000000, ",
    ),
    "batch larger than prompts": ([*RANDOM, "--batch", "4", "--count", "3"], "--batch 4 needs as many prompts; there"),
    "no rounds": ([*RANDOM, "--rounds", "0"], "Invalid value for '--rounds': "),
    "negative warm-up": ([*RANDOM, "--warm-up", "-1"], "Invalid value for '--warm-up': "),
    "sweep without values": ([*RANDOM, "--sweep", "seed"], "--sweep 'seed' must be written KEY=VALUE,VALUE,... such"),
    "sweep of a name alone": (
        [*RANDOM, "--sweep", "drafter.name=none,prompt_lookup"],
        f"--sweep drafter.name with '{TABLE.stem}' alone compares nothing: ratios are between the subjects of a point;",
    ),
    "sweep of an unknown key": (
        [*RANDOM, "--sweep", "drafter.lenght=1,2"],
        "override: drafter.lenght: unknown option 'lenght' (did you mean 'length'?)",
    ),
    "sweep out of bounds": ([*RANDOM, "--sweep", "seed=1,-1"], "override: seed: must be at least 0, not -1"),
    "variant without label": ([*RANDOM, "--variant", "seed=1"], "--variant 'seed=1' must be written \"LABEL: KEY="),
    "variant of nothing": ([*RANDOM, "--variant", "x: drafter=1"], "variant 'x': drafter: must be a mapping with"),
    "variant that is taken": ([*RANDOM, "--baseline", "none", "--variant", "none: seed=1"], "two subjects are called"),
    "unknown baseline": ([*RANDOM, "--baseline", "generat"], "--baseline: unknown baseline 'generat' (did you mean"),
    "a warm baseline": (
        [*RANDOM, "--baseline", "generate", "sampling.temperature=0.7", "verifier.name=coupled"],
        f"{TABLE}: sampling: baseline 'generate' decodes greedily, without penalties: leave sampling out",
    ),
    "option of none": ([*RANDOM, "--baseline", "generate: a=1"], "--baseline generate: a: unknown option 'a'"),
    "against nobody": ([*RANDOM, "--against", "nune"], "--against: unknown subject 'nune'; known: table-prompt-lookup"),
    "unknown override": ([*RANDOM, "stopp.max_new_tokens=1"], "override: stopp: unknown key 'stopp'"),
    "no override": ([*RANDOM, "drafter"], "override: 'drafter': must be written key=value"),
    "shape of a table": ([*RANDOM, "--shape", "small"], "override: target.source: unknown option 'source'"),
    "out is a folder": ([*RANDOM, "--out", "."], "--out: '.' is a directory"),
    "out below a file": ([*RANDOM, "--out", "file/results.json"], "--out: nothing can be written to '/"),
    "context too long": (
        [*RANDOM, "target.max_length=6"],
        "table-prompt-lookup: a context of 6 leaves no room in the model's, 6",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_sentence(name: str, orthrus: InProcess) -> None:
    Path("file").touch()
    arguments, sentence = REFUSED[name]
    assert orthrus(*arguments).error().startswith(sentence)
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_one_who_cannot_run_at_a_point_is_a_row_and_a_sentence(orthrus: InProcess, site: Site) -> None:
    site.install("slow_baseline", SLOW_BASELINE)
    done = orthrus(*RANDOM, "--baseline", "refusing", "--batch", "1,2", "--against", TABLE.stem)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("\nrefusing, batch 2, context 6: it takes one prompt at a time\n")
    assert done.out.count("failed") == 1


def test_one_who_can_run_nowhere_is_a_failure(orthrus: InProcess, site: Site) -> None:
    site.install("slow_baseline", SLOW_BASELINE)
    names = ["--baseline", "shapeless", "--baseline", "generate", "--against", TABLE.stem]
    done = orthrus(*RANDOM, *names, "--out", "results.json")
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines()[-2:] == [
        "shapeless, batch 1, context 6: baseline 'shapeless' of plugin 'slow_baseline' is no Baseline: it lacks answer",
        "generate, batch 1, context 6: baseline 'generate' runs on the target 'transformers' only, not on a Table"
        "Target",
    ]
    assert [run.error is None for run in read_results(Path("results.json")).runs] == [False, False, True]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny llama without a tokenizer, and a run file beside it."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=96, bos_token_id=None, eos_token_id=3, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "tiny")
    file = folder / "tiny.yaml"
    file.write_text(
        f"target: {{name: transformers, source: {folder / 'tiny'}, dtype: float32, device: cpu}}\n"
        "attention: {name: sdpa}\ncache: {name: dynamic}\ndrafter: {name: prompt_lookup}\nverifier: {name: consensus}\n"
        "stop: {max_new_tokens: 24, min_new_tokens: 8}\n"
    )
    return file


@pytest.mark.thorough
def test_a_model_beside_what_transformers_makes_of_it(orthrus: InProcess, model: Path) -> None:
    names = ["none", "generate", "generate-static", "generate-prompt-lookup: num_tokens=4"]
    flags = [flag for name in names for flag in ("--baseline", name)]
    done = orthrus("bench", "--config", model, *flags, "--context", "12", "--count", "2", "--rounds", "1", "--json")
    by_label = {run["label"]: run for run in runs_of(done)}
    assert list(by_label) == ["none", "generate", "generate-static", "generate-prompt-lookup", "tiny"]
    assert all(run["error"] is None and run["identical"] == 1.0 for run in by_label.values())
    for name, kind in zip(by_label, ["decoder", "baseline", "baseline", "baseline", "decoder"], strict=True):
        run = by_label[name]
        assert run["kind"] == kind
        assert run["ttft_seconds"]["median"] > 0 and run["cycle_seconds"]["median"] > 0
        assert run["tokens_per_cycle"][0] >= 1
        assert (run["phases"] is not None) == (run["pass_bytes"] is not None) == (kind == "decoder")
        assert run["peak_memory_bytes"] is None
    assert by_label["generate"]["tokens_per_cycle"] == by_label["none"]["tokens_per_cycle"] == [1.0, 1.0]
    weights = 4 * sum(tensor.numel() for tensor in LlamaForCausalLM.from_pretrained(model.parent / "tiny").parameters())
    table = 4 * 40 * 32
    assert by_label["none"]["pass_bytes"] > weights - table
    assert by_label["none"]["bandwidth_share"] > 0


@pytest.mark.thorough
def test_an_interrupt_leaves_what_was_measured(site: Site, tmp_path: Path) -> None:
    mark, out = tmp_path / "mark", tmp_path / "results.json"
    # Its fourth call is in the third round that counts, so two are finished.
    fourth = f"self.calls = getattr(self, 'calls', 0) + 1; self.calls == 4 and open({str(mark)!r}, 'w').close()"
    site.install("slow_baseline", SLOW_BASELINE.replace("time.sleep(0.02)", f"time.sleep(0.02); {fourth}"))
    arguments = ["bench", "--config", str(TABLE), "--context", "6", "--baseline", "slow", "--rounds", "100000"]
    command = [*PROGRAM, *arguments, "--batch", "1,2", "--out", str(out), "stop.max_new_tokens=2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 60
        while not mark.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (130, "")
    assert "slow" in printed and "Traceback" not in printed
    runs: tuple[Run, ...] = read_results(out).runs
    assert [run.label for run in runs] == ["slow", TABLE.stem]  # of the first batch; the second never began
    lengths = {len(run.tokens_per_second.values) for run in runs if run.tokens_per_second}
    assert len(lengths) == 1 and 2 <= lengths.pop() < 100000
