"""Programs that speak to servers of language models, run as their users run them: `llm`, `lm_eval`, `guidellm`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
import yaml
from support.served_program import Started, started
from support.small_model import WORDS, save_config, save_model
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = pytest.mark.clients
BIN = Path(sys.executable).parent
TASK = {"dataset_path": "json", "test_split": "test", "doc_to_text": "{{question}}", "doc_to_target": "{{answer}}"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a tiny model."""
    folder = tmp_path_factory.mktemp("model")
    save_model(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Give a program that serves it."""
    config = tmp_path_factory.mktemp("config") / "tiny.yaml"
    save_config(config, model)
    with started(config, "--vllm-metrics") as program:
        yield program


def output(program: str, *arguments: object, **variables: object) -> str:
    """Return what a program prints; assert that it ends without an error."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **{name: str(value) for name, value in variables.items()}}
    done = subprocess.run(
        [str(BIN / program), *map(str, arguments)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("completion", [False, True])
def test_llm_answers_streamed_and_whole(completion: bool, server: Started, tmp_path: Path) -> None:
    models = [
        {"model_id": "mine", "model_name": server.model, "api_base": f"{server.url}/v1", "completion": completion}
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump(models), encoding="utf-8")
    settings = ["-m", "mine", "the cat", "-o", "max_tokens", 12, "--key", "none"]
    folder = {"LLM_USER_PATH": tmp_path, "LLM_LOAD_PLUGINS": ""}
    streamed = output("llm", *settings, **folder)
    assert streamed == output("llm", *settings, "--no-stream", **folder) and len(streamed) > 5


def write_tasks(folder: Path) -> None:
    """Write two tasks of 20 questions: one that chooses by log-likelihood, one that generates."""
    chooser = random.Random(0)

    def words(least: int, most: int) -> str:
        return " ".join(chooser.choices(WORDS, k=chooser.randint(least, most)))

    questions: list[dict[str, Any]] = [
        {"question": words(3, 60), "choices": [f" {words(1, 4)}" for _ in range(3)], "answer": chooser.randrange(3)}
        for _ in range(20)
    ]
    file = folder / "questions.jsonl"
    file.write_text("".join(f"{json.dumps(question)}\n" for question in questions), encoding="utf-8")
    data = {"dataset_kwargs": {"data_files": {"test": str(file)}}}
    choice = {"task": "choose", "output_type": "multiple_choice", "doc_to_choice": "{{choices}}"}
    settings = {"until": ["cat"], "max_gen_toks": 16, "do_sample": False}
    generate = {"task": "generate", "output_type": "generate_until", "generation_kwargs": settings}
    for task, metric in ((choice, "acc"), (generate, "exact_match")):
        written = {**TASK, **data, **task, "metric_list": [{"metric": metric}]}
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")


def samples(folder: Path, task: str) -> list[dict[str, Any]]:
    """Return what lm_eval has kept of a task."""
    [file] = folder.rglob(f"samples_{task}_*.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("tokenizer", ["huggingface", "remote"])
def test_lm_eval_generates_and_gets_the_models_log_likelihoods(
    tokenizer: str, server: Started, model: Path, tmp_path: Path
) -> None:
    write_tasks(tmp_path)
    local = f",tokenizer={model}" if tokenizer == "huggingface" else ""
    url = f"base_url={server.url}/v1/completions,num_concurrent=4,max_retries=1,tokenizer_backend={tokenizer}{local}"
    served = ["--model", "local-completions", "--model_args", f"model={server.model},{url}"]
    kept = ["--output_path", tmp_path / "out", "--log_samples"]
    output("lm_eval", "run", *served, "--tasks", "choose,generate", "--include_path", tmp_path, *kept)
    assert all(len(sample["resps"][0][0]) > 5 for sample in samples(tmp_path, "generate"))
    chosen = samples(tmp_path, "choose")
    assert len(chosen) == 20
    for sample in chosen:
        for arguments, [[said, greedy]] in zip(sample["arguments"].values(), sample["resps"], strict=True):
            wanted, likeliest = log_likelihood(model, arguments["arg_0"], arguments["arg_1"])
            assert float(said) == pytest.approx(wanted, abs=1e-4) and (str(greedy) == "True") == likeliest


def log_likelihood(folder: Path, context: str, continuation: str) -> tuple[float, bool]:
    """Return transformers' own log-likelihood of a continuation, and whether each of its tokens is the likeliest."""
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    tokens, before = tokenizer.encode(context + continuation), len(tokenizer.encode(context))
    with torch.no_grad():
        scores = network(torch.tensor([tokens])).logits[0].double().log_softmax(-1)  # [n, V]
    places: Sequence[int] = range(before, len(tokens))
    total = sum(float(scores[place - 1, tokens[place]]) for place in places)
    return total, all(int(scores[place - 1].argmax()) == tokens[place] for place in places)


def test_guidellm_measures_at_a_rate_of_four(server: Started, model: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    output(
        "guidellm",
        "run",
        "--backend",
        f"kind=openai_http,target={server.url}",
        "--profile",
        "kind=constant,rate=4",
        "--constraint",
        "kind=max_duration,seconds=5",
        "--data",
        "kind=synthetic_text,prompt_tokens=24,output_tokens=16",
        "--tokenizer",
        f"kind=huggingface_auto,model={model}",
        "--output",
        f"kind=json,path={report}",
        "--disable-progress",
    )
    [benchmark] = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    requests = benchmark["metrics"]["request_totals"]
    assert requests["successful"] > 10 and requests["errored"] == 0, requests
    figures = httpx2.get(f"{server.url}/metrics").text
    assert "vllm:spec_decode_num_drafts_total" in figures and "vllm:time_to_first_token_seconds_bucket" in figures
