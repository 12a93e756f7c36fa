"""The schema of a training config, section by section; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from orthrus import option


@dataclass(frozen=True)
class TrainingOptions:
    """Options of training: what is trained, and where everything that it makes is kept."""

    out: str = option(
        help="directory for prompts, answers, checkpoints, metrics and the view; relative to where you are"
    )
    mask_token_id: int = option(
        minimum=0,
        help="token that stands for what is to be drafted; one that no text has, such as an unused special one",
    )
    block: int = option(16, minimum=2, maximum=1024, help="anchor and drafts of a block")
    start: str | None = option(
        None,
        help="a view to go on from: a directory, or the name of one that is shipped; null: copies of the model's own"
        " attention",
    )
    allow_ordinary_mask: bool = option(
        False, help="take a mask token that may occur in texts; drafts near it get worse"
    )
    storage: Literal["float", "int8"] = option(
        "int8", help="how the trained view is kept: in the target's dtype or int8"
    )
    seed: int = option(0, minimum=0, help="seed of sampled prompts, of the order of texts and of anchors")


@dataclass(frozen=True)
class PromptsOptions:
    """Options of the stage `prompts`: those that the model writes itself, and those of files."""

    sampled: int = option(
        40_000, minimum=0, help="prompts that the model writes itself after the header of a user's turn"
    )
    openings: tuple[str, ...] = option(
        ("",), help="texts that sampled prompts begin with, each as often; empty: anything"
    )
    temperature: float = option(1.0, minimum=0.01, help="temperature of sampled prompts")
    max_new_tokens: int = option(
        192, minimum=1, help="longest sampled prompt; one that does not end by itself is dropped"
    )
    files: tuple[str, ...] = option((), help="prompt files (JSONL) whose prompts are added; relative to where you are")
    avoid: tuple[str, ...] = option(
        (), help="prompt files to measure with: prompts that repeat one of theirs, or 13 words of it, are left out"
    )
    batch: int = option(1024, minimum=1, help="rows that are decoded at a time")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        if not self.sampled and not self.files:
            yield "sampled", "is 0, and no files are named: there would be no prompts"


@dataclass(frozen=True)
class AnswersOptions:
    """Options of the stage `answers`: greedy, unless a temperature is given."""

    max_new_tokens: int = option(384, minimum=2, help="most tokens of an answer")
    max_prompt_tokens: int = option(512, minimum=1, help="longer prompts are left out")
    temperature: float = option(0.0, minimum=0.0, help="temperature of answers; 0: greedy, as the view will be used")
    batch: int = option(1024, minimum=1, help="rows that are decoded at a time")
    shard: int = option(8192, minimum=1, help="prompts whose answers make one file; what is lost by an interruption")


@dataclass(frozen=True)
class FitOptions:
    """Options of the stage `fit`."""

    steps: int = option(2000, minimum=1, help="optimizer steps")
    rows: int = option(64, minimum=1, help="packed rows of a step, over all processes")
    rows_at_a_time: int = option(16, minimum=1, help="rows of one pass of one process; fewer take less memory")
    row_tokens: int = option(
        1024, minimum=16, help="tokens of a packed row; texts longer than it, or than the model's context, are cut"
    )
    anchors: int = option(128, minimum=1, help="blocks of a row")
    learning_rate: float = option(1e-3, minimum=0.0, help="highest learning rate, after the warm-up")
    final_rate: float = option(0.0, minimum=0.0, maximum=1.0, help="share of it at the last step of the cosine")
    warm_up: float = option(0.05, minimum=0.0, maximum=1.0, help="share of the steps over which the rate rises")
    clip: float = option(1.0, minimum=0.0, help="largest norm of a gradient; 0: any")
    decay: float = option(1.0, minimum=0.0, maximum=1.0, help="weight of each draft of a block over the one before it")
    frontier: float = option(
        0.0, minimum=0.0, maximum=1.0, help="how much less drafts weigh behind one that the view gets wrong; 1: nothing"
    )
    hard_anchors: float = option(
        0.0,
        minimum=0.0,
        maximum=1.0,
        help="how much rarer an anchor is that the model was sure of; decoding drafts from those that it was not",
    )
    teacher_temperature: float = option(
        1.0, minimum=0.05, help="temperature of what the view learns; below 1 the likeliest token counts more"
    )
    successor_rank: int | None = option(
        None,
        minimum=0,
        maximum=4096,
        help="rank of the successor head, which corrects drafts by the token before each; 0: none; null: that of the"
        " view that training.start names, if it has one",
    )
    train: Literal["all", "successor"] = option(
        "all", help="all: the view, and the head if it has one; successor: the head alone, the view stays as it is"
    )
    minutes: float | None = option(
        None,
        minimum=0.0,
        help="most minutes of steps, counted from the first, which compiles; the rate then falls by them if that is"
        " sooner; null: all steps",
    )
    masks: Literal["auto", "flex", "dense"] = option(
        "auto", help="flex: FlexAttention and compiled layers, which need CUDA; dense: masks as tensors"
    )
    loss_rows: int = option(2, minimum=1, help="rows whose logits are in memory at a time")
    log_every: int = option(10, minimum=1, help="steps between lines of metrics.jsonl")
    save_every: int = option(250, minimum=1, help="steps between checkpoints; the last two are kept")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        if self.rows % self.rows_at_a_time:
            yield "rows_at_a_time", f"is {self.rows_at_a_time}, which does not divide rows, {self.rows}"
        if self.train == "successor" and self.successor_rank == 0:
            yield "successor_rank", "is 0, and train=successor trains a head; set it to 256, say"
        if self.rows_at_a_time % self.loss_rows:
            yield "loss_rows", f"is {self.loss_rows}, which does not divide rows_at_a_time, {self.rows_at_a_time}"


@dataclass(frozen=True)
class EvalOptions:
    """Options of the stage `eval`: the prompts it decodes; only what `prompts.avoid` names too is not trained on."""

    files: tuple[str, ...] = option(
        (), help="prompt files (JSONL); none: prompts that training leaves out, sampled ones first"
    )
    prompts: int = option(32, minimum=1, help="how many prompts: the first of each file, or as many left out")
    max_new_tokens: int = option(128, minimum=2, help="most tokens of an answer")
    batch: int = option(32, minimum=1, help="rows that are decoded at a time")
    every: int = option(500, minimum=1, help="steps of fit between measurements; it also measures at the end")
