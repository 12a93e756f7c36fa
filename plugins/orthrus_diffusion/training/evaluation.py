"""Measures a view by decoding with it: agreement on texts that are given misleads, because in decoding an anchor comes
after a draft that was wrong, which is where drafting is hard.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthrus import Decoder, InputError, Prompt, Result, read_prompts, summarize
from orthrus.optional import TrainableTarget
from orthrus.progress import bar
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.successor import SuccessorHead
from orthrus_diffusion.training.session import TrainingSession


@dataclass(frozen=True)
class Evaluation:
    """The decoder that uses the view, and the prompts."""

    decoder: Decoder
    prompts: tuple[Prompt, ...]
    batch: int

    @classmethod
    def of(
        cls, run: TrainingSession, target: TrainableTarget, view: str, successor: SuccessorHead | None = None
    ) -> Evaluation:
        """Return the evaluation of an attached view and its head; raise InputError if there are no prompts."""
        drafter = Diffusion(target, run.training.block, run.training.mask_token_id, view, successor=successor)
        stop = {"max_new_tokens": run.eval.max_new_tokens}
        return cls(run.decoder(target, drafter=drafter, stop=stop), tuple(evaluation_prompts(run)), run.eval.batch)

    def measure(self, shown: bool = False) -> dict[str, Any]:
        """Return tokens per cycle, pooled and per prompt; pooled over answers that ended by themselves; their share.

        shown: whether to show a bar; within another stage's there is none.
        """
        with bar("eval", len(self.prompts), shown=shown) as advance:
            results = self.decoder.generate(self.prompts, batch=self.batch, on_result=advance)
        ended = [result for result in results if result.finish_reason == "stop_token"]
        return {**_named("", results), **_named("ended_", ended), "ended": len(ended) / len(results)}


def _named(prefix: str, results: list[Result]) -> dict[str, float | None]:
    ratio = summarize([result.measures for result in results]).tokens_per_cycle
    return {f"{prefix}tokens_per_cycle": ratio.pooled, f"{prefix}tokens_per_cycle_per_prompt": ratio.per_prompt}


def evaluation_prompts(run: TrainingSession) -> list[Prompt]:
    """Return what a view is measured with; raise InputError if no files are named and none was held out."""
    files = [Path(name).expanduser() for name in run.eval.files] or [run.out / "held-out.jsonl"]
    if not run.eval.files and not files[0].exists():
        raise InputError(f"there is no '{files[0]}'; run the stage prompts, which holds some out, or name eval.files")
    return [record.prompt for file in files for record in read_prompts(file, run.eval.prompts)]
