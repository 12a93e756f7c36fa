"""Answer two prompts with drafts and without, and show that the texts agree (`make demo`).

On a CPU the weights stay in the file's blocks of 4 bits, and drafts are looked up in the text; where the native kernels
cannot be built, and on a GPU, they are widened and the shipped diffusion view drafts.
"""

from __future__ import annotations

import torch
from rich.console import Console

import orthrus
from orthrus.cli.render import print_piece, summary

IN_BLOCKS = "configs/recipes/smollm2-gguf.yaml"
WITH_VIEW = "configs/recipes/smollm2-diffusion.yaml"
WITHOUT = "configs/recipes/smollm2-plain.yaml"
WARM = 24  # tokens, more than the longest draft
PROMPTS = [
    "Rewrite this Python function with type hints:\n\n"
    "def area(width, height):\n"
    "    if width < 0 or height < 0:\n"
    "        raise ValueError('width and height must not be negative')\n"
    "    return width * height",
    "Write a Python class Stack with push, pop, peek and is_empty, each with a docstring.",
]


def main() -> None:
    """Stream each answer twice: first drafted (accepted drafts in green), then token by token."""
    console = Console(highlight=False)
    with console.status("loading SmolLM2-135M-Instruct"):
        drafted, drafts = load(console)
        plain = orthrus.load(WITHOUT, target=drafted.target)
    for decoder in (drafted, plain):  # what is measured or allocated once is no part of an answer's time
        warm = orthrus.Decoder.of(decoder.target, decoder.drafter, decoder.verifier, orthrus.Stop(WARM))
        warm.generate(PROMPTS[:1])
    same = [compare(console, drafted, plain, prompt, drafts) for prompt in PROMPTS]
    console.print(f"[bold]{sum(same)} of {len(same)} answers identical with and without the drafter[/bold]")
    raise SystemExit(0 if all(same) else 1)


def load(console: Console) -> tuple[orthrus.Decoder, str]:
    """Return the decoder that drafts and pays most on this machine, and what it drafts with."""
    if not torch.cuda.is_available():
        try:
            decoder = orthrus.load(
                IN_BLOCKS, dotted=["target.engine=native", "target.device=cpu"], notify=console.print
            )
        except orthrus.BuildError as error:
            console.print(f"weights are widened: {error}", markup=False)
        else:
            return decoder, "drafts that are looked up in the text"
    return orthrus.load(WITH_VIEW, notify=console.print), "the diffusion view"


def compare(console: Console, drafted: orthrus.Decoder, plain: orthrus.Decoder, prompt: str, drafts: str) -> bool:
    """Return whether both decoders give the same tokens, streaming both answers."""
    console.rule(style="dim")
    console.print(prompt, style="bold", markup=False)
    fast = stream(console, drafted, prompt, f"with {drafts}; accepted drafts in green")
    slow = stream(console, plain, prompt, "without a drafter")
    speeds = fast.measures.tokens_per_second, slow.measures.tokens_per_second
    if all(speeds):
        ratio = (speeds[0] or 0) / (speeds[1] or 1)
        console.print(f"{speeds[0]:.1f} tokens/s with the drafter, {speeds[1]:.1f} without: {ratio:.2f} times as fast")
    identical = fast.token_ids == slow.token_ids and fast.text == slow.text
    console.print(f"identical: {'yes' if identical else 'NO'}")
    return identical


def stream(console: Console, decoder: orthrus.Decoder, prompt: str, title: str) -> orthrus.Result:
    """Print an answer as it comes and return its result."""
    console.print(f"\n{title}:", style="dim")
    answer = decoder.stream(prompt)
    for piece in answer:
        print_piece(console, piece)
    console.print()
    console.print(summary(answer.result), style="dim", markup=False, soft_wrap=True)
    return answer.result


if __name__ == "__main__":
    main()
