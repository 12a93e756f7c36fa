"""Makes docs/results/training-log.md and its plots of what trainings wrote: `python docs/tools/training_log.py`.

docs/evidence/training/ has for each trial of trials.yaml the metrics.jsonl of its stages fit (NAME.jsonl) and answers
(NAME-answers.jsonl), and what decoding with its view gave (NAME-acceptance.json); of short trials the first alone, of
successor heads the first and the last. No figure is written by hand. docs/explanation/dual-view.md has a table of what
the newest head gives.
"""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parents[1]
GUIDE, BEGIN, END = DOCS / "guide" / "training-a-view.md", "<!-- training cost -->\n", "<!-- end -->\n"
VIEW, HEADS = DOCS / "explanation" / "dual-view.md", "<!-- successor heads -->\n"
FOLDER, PAGE, FIGURES = DOCS / "evidence" / "training", DOCS / "results" / "training-log.md", "figures/training"
PLOTTED = {  # of the fit's records: what the axis says
    "divergence": "divergence, nats",
    "right_drafts": "right drafts of a block",
    "row_tokens_per_second": "row tokens a second",
}
SUCCESSOR = "successor_"  # before the keys of a fit that trains a head alone
WITHOUT = ", without its successor head"  # behind a way to draft, in what is measured
HEAD = """# Training log

Every training of a view of SmolLM2-135M-Instruct that was tried, with what it gave. The page and its plots are made of
what the trainings wrote, by `docs/tools/training_log.py`; [Training a view](../guide/training-a-view.md) has the
commands.

*Right drafts* are those of a block that are all the model's likeliest up to there, where the anchor is any token of an
answer. *tokens_per_cycle* is of decoding: [the loop](../explanation/decode-loop.md#vocabulary) says what counts.
*Ended* are the answers that ended by themselves: a small model that repeats itself flatters the figure of all. GPU
minutes of the fit are its row tokens over its row tokens a second, times the GPUs, compilation included, measuring and
saving left out.
"""
Records = Sequence[Mapping[str, Any]]


def page(folder: Path) -> str:
    """Return the page of a folder's trials, the newest first."""
    held = yaml.safe_load((folder / "trials.yaml").read_text(encoding="utf-8"))
    parts = [part for trial in reversed(held["heads"]) for part in head_section(folder, trial)]
    parts += [part for trial in reversed(held["trials"]) for part in section(folder, trial, held["bars"])]
    parts += short_trials(folder, held["short"])
    return "\n\n".join([HEAD.strip(), *parts]) + "\n"


def section(folder: Path, trial: Mapping[str, Any], bars: Mapping[str, float]) -> Iterator[str]:
    """Yield the paragraphs of a trial."""
    name = trial["name"]
    fit, acceptance_facts = (
        read_lines(folder / f"{name}.jsonl"),
        json.loads((folder / f"{name}-acceptance.json").read_text("utf-8")),
    )
    answers = read_lines(folder / f"{name}-answers.jsonl")
    steps = [record for record in fit if "divergence" in record]
    yield f"## {trial['title']}"
    yield "\n".join(table(("what", "value"), facts(trial, steps, answers)))
    yield filled(f"**Data.** {trial['data']}")
    yield f"![{'; '.join(PLOTTED.values())}: over steps]({FIGURES}/{name}.svg)"
    yield filled(f"**What was measured.** {trial['measured']} Tokens per cycle:")
    yield "\n".join(acceptance(acceptance_facts))
    yield "\n".join(against_bars(acceptance_facts[trial["kept"]]["all"], trial["kept"], bars))
    yield falling(steps)
    yield filled(trial["words"])


def head_section(folder: Path, trial: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paragraphs of the training of a successor head."""
    measured, steps = measured_of(folder, trial), head_steps(folder, trial)
    yield f"## {trial['title']}"
    yield "\n".join(table(("what", "value"), [*given(trial), *fitted(trial, steps)]))
    yield filled(f"**Data.** {trial['data']}")
    yield f"![{'; '.join(PLOTTED.values())}: over steps]({FIGURES}/{trial['name']}.svg)"
    yield filled(f"**What was measured.** {trial['measured']} Tokens per cycle:")
    yield "\n".join(acceptance(measured))
    yield falling(steps)
    yield filled(trial["words"])


def measured_of(folder: Path, trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured with a trial's head: files by how was drafted."""
    text = (folder / f"{trial['name']}-acceptance.json").read_text(encoding="utf-8")
    return {label: files for label, files in json.loads(text).items() if label != "environment"}


def head_steps(folder: Path, trial: Mapping[str, Any]) -> Records:
    """Return the records of the steps of a head's fit, under the keys that those of a view have."""
    records = read_lines(folder / f"{trial['name']}.jsonl")
    renamed = [{key.removeprefix(SUCCESSOR): value for key, value in record.items()} for record in records]
    return [record for record in renamed if "divergence" in record]


def head_lines(folder: Path) -> list[str]:
    """Return the table of what the newest head gives, a row for each way to draft and file."""
    *_, trial = yaml.safe_load((folder / "trials.yaml").read_text(encoding="utf-8"))["heads"]
    measured = measured_of(folder, trial)
    rows = [
        (label, f"`{file}`" if file != "all" else "**all**", summary["prompts"], *compared(files[file], summary))
        for label, files in measured.items()
        if label + WITHOUT in measured
        for file, summary in measured[label + WITHOUT].items()
        if file != "all" or len(files) > 2  # of a single file it is the same
    ]
    return table(("drafts", "file", "prompts", "without", "with", "gain", "ended, without", "ended, with"), rows)


def compared(head: Mapping[str, float], none: Mapping[str, float]) -> list[str]:
    """Return pooled tokens per cycle without a head and with it, and of the answers that ended."""
    gain = f"{100 * (head['pooled'] / none['pooled'] - 1):+.1f} %"
    pooled, ended = ([f"{each[key]:.3f}" for each in (none, head)] for key in ("pooled", "ended_pooled"))
    return [*pooled, gain, *ended]


def short_trials(folder: Path, short: Mapping[str, Any]) -> list[str]:
    """Return the section of the trials that were too short to give a view: a row for each, with what was changed."""
    head = ("changed", "right drafts", "tokens per cycle", "per prompt", "ended", "row tokens a second")
    rows = [(trial["changed"], *outcome(read_lines(folder / f"{trial['name']}.jsonl"))) for trial in short["trials"]]
    return [f"## {short['title']}", filled(short["words"]), "\n".join(table(head, rows))]


def outcome(lines: Records) -> tuple[str, ...]:
    """Return what a short trial ended with: of the last steps, and of decoding with the view."""
    *_, fit = (line for line in lines if "right_drafts" in line)
    *_, decoding = (line for line in lines if "tokens_per_cycle" in line)
    keys = ("tokens_per_cycle", "tokens_per_cycle_per_prompt", "ended_tokens_per_cycle")
    measured = (f"{decoding[key]:.2f}" for key in keys)
    return (f"{fit['right_drafts']:.2f}", *measured, f"{fit['row_tokens_per_second']:,.0f}")


def filled(text: str) -> str:
    """Return a paragraph in lines of the page's width."""
    return textwrap.fill(text.strip(), 120, break_long_words=False, break_on_hyphens=False)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the records of a JSONL file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def facts(trial: Mapping[str, Any], steps: Records, answers: Records) -> list[tuple[str, str]]:
    """Return the rows of a trial's first table."""
    tokens = sum(shard["tokens"] for shard in answers)
    ended = sum(shard["answers"] * shard["ended_by_themselves"] for shard in answers) / sum(
        shard["answers"] for shard in answers
    )
    return [
        *given(trial),
        ("answers", f"{sum(shard['answers'] for shard in answers):,}, of which {percent(ended)} ended by themselves"),
        ("tokens of answers", f"{tokens:,}"),
        ("answering", f"{answer_minutes(answers):.1f} GPU minutes"),
        *fitted(trial, steps),
    ]


def given(trial: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the rows that say how a trial was set up."""
    return [("GPUs of the fit", trial["machine"]), *((f"`{key}`", f"{value}") for key, value in trial["fit"].items())]


def fitted(trial: Mapping[str, Any], steps: Records) -> list[tuple[str, str]]:
    """Return the rows that say what a fit took and came to."""
    row_tokens = steps[-1]["step"] * trial["fit"]["rows"] * trial["fit"]["row_tokens"]
    return [
        ("row tokens of the fit", f"{row_tokens:,}"),
        ("fit", f"{gpu_minutes(trial, steps):.1f} GPU minutes"),
        ("steps skipped for a gradient that was not finite", f"{steps[-1]['skipped']}"),
        ("last divergence, right drafts", f"{steps[-1]['divergence']:.2f} nats, {steps[-1]['right_drafts']:.2f}"),
    ]


def gpu_minutes(trial: Mapping[str, Any], steps: Records) -> float:
    """Return how long the fit kept its GPUs busy, all of them added up."""
    step_tokens = trial["fit"]["rows"] * trial["fit"]["row_tokens"]
    before = [0, *(step["step"] for step in steps)]
    taken = [(step["step"] - last) * step_tokens for step, last in zip(steps, before, strict=False)]
    seconds = sum(tokens / step["row_tokens_per_second"] for tokens, step in zip(taken, steps, strict=True))
    return float(seconds * trial["gpus"] / 60)


def cost_lines(folder: Path) -> list[str]:
    """Return the table of what the trials cost, a trial a row."""
    trials = yaml.safe_load((folder / "trials.yaml").read_text(encoding="utf-8"))["trials"]
    answers, fit = ("tokens of answers", "GPU minutes", "a second"), ("row tokens", "GPU minutes", "a second and GPU")
    return table(("trial", "on", *answers, *fit), [cost(folder, trial) for trial in reversed(trials)])


def cost(folder: Path, trial: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a trial's row: what it ran on, the answers, then the fit."""
    answers = read_lines(folder / f"{trial['name']}-answers.jsonl")
    steps = [line for line in read_lines(folder / f"{trial['name']}.jsonl") if "divergence" in line]
    tokens, minutes = sum(shard["tokens"] for shard in answers), answer_minutes(answers)
    row_tokens = steps[-1]["step"] * trial["fit"]["rows"] * trial["fit"]["row_tokens"]
    fitting = gpu_minutes(trial, steps)
    speeds = (tokens / minutes / 60, row_tokens / fitting / 60)
    answered = (f"{tokens / 1e6:.1f}M", f"{minutes:.1f}", f"{speeds[0]:,.0f}")
    return (
        trial["name"],
        trial["machine"],
        *answered,
        f"{row_tokens / 1e6:.1f}M",
        f"{fitting:.1f}",
        f"{speeds[1]:,.0f}",
    )


def answer_minutes(answers: Records) -> float:
    """Return how long answering kept its GPUs busy, all of them added up."""
    return float(sum(shard["tokens"] / shard["tokens_per_second"] for shard in answers) / 60)


def acceptance(measured: Mapping[str, Any]) -> list[str]:
    """Return the table of tokens per cycle: a row for each way to keep the view, block and file."""
    rows = [
        (view, f"`{file}`" if file != "all" else "**all**", summary["prompts"], *figures(summary))
        for view, files in measured.items()
        for file, summary in files.items()
    ]
    return table(("view", "file", "prompts", "pooled", "per prompt", "ended", "ended, per prompt", "share"), rows)


def figures(measured: Mapping[str, float]) -> list[str]:
    """Return a row's figures as the table writes them."""
    keys = ("pooled", "per_prompt", "ended_pooled", "ended_per_prompt")
    return [*(f"{measured[key]:.2f}" for key in keys), percent(measured["ended"])]


def percent(share: float) -> str:
    """Return a share as the page writes it."""
    return f"{100 * share:.0f} %"


def against_bars(measured: Mapping[str, float], kept: str, bars: Mapping[str, float]) -> list[str]:
    """Return the table that holds the view that is kept against the bars."""
    wanted = (
        ("all answers", measured["pooled"], bars["all"]),
        ("those that ended", measured["ended_pooled"], bars["ended"]),
    )
    rows = [(what, f"{value:.2f}", f"{bar:.1f}", "met" if value >= bar else "not met") for what, value, bar in wanted]
    return table((f"{kept}, pooled over", "tokens per cycle", "bar", "result"), rows)


def falling(steps: Records) -> str:
    """Say what the divergence did over the last fifth of the steps, held against the fifth before."""
    fifth = len(steps) // 5
    before, last = (
        sum(step["divergence"] for step in part) / fifth for part in (steps[-2 * fifth : -fifth], steps[-fifth:])
    )
    return f"The divergence of the last fifth of the steps was {last:.3f}, of the fifth before it {before:.3f}."


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]


def plot(steps: Records, title: str) -> str:
    """Return what the records of a fit say over its steps, as SVG that is the same every time."""
    import matplotlib
    from matplotlib.figure import Figure

    from orthrus.bench.plots import COLORS, STYLE

    written = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(8, 2.4 * len(PLOTTED)), layout="constrained")
        panes = figure.subplots(len(PLOTTED), sharex=True)
        for axes, (key, label), color in zip(panes, PLOTTED.items(), COLORS, strict=False):
            axes.plot([step["step"] for step in steps], [record[key] for record in steps], color=color)
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
        panes[-1].set_xlabel("step")
        figure.savefig(written, format="svg", metadata={"Date": None, "Title": title})
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


def plots(folder: Path) -> dict[str, str]:
    """Return the plot of each trial by the name of its file."""
    held = yaml.safe_load((folder / "trials.yaml").read_text(encoding="utf-8"))
    lines = {trial["name"]: read_lines(folder / f"{trial['name']}.jsonl") for trial in held["trials"]}
    lines |= {trial["name"]: head_steps(folder, trial) for trial in held["heads"]}
    return {
        f"{name}.svg": plot([record for record in records if "divergence" in record], name)
        for name, records in lines.items()
    }


def between(text: str, begin: str, lines: Sequence[str]) -> str:
    """Return a page with the lines of a table in the place of those behind a mark."""
    before, _, rest = text.partition(begin)
    return before + begin + "".join(f"{line}\n" for line in lines) + END + rest.partition(END)[2]


def main() -> None:
    """Write the page and its plots, and tables into the guide and the page of views."""
    for file, begin, lines in ((GUIDE, BEGIN, cost_lines(FOLDER)), (VIEW, HEADS, head_lines(FOLDER))):
        file.write_text(between(file.read_text(encoding="utf-8"), begin, lines), encoding="utf-8")
    PAGE.write_text(page(FOLDER), encoding="utf-8")
    (PAGE.parent / FIGURES).mkdir(parents=True, exist_ok=True)
    for name, svg in plots(FOLDER).items():
        (PAGE.parent / FIGURES / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
