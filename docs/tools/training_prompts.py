r"""Write prompt files for training a view on tasks of a kind: a view drafts best where it was trained.

python docs/tools/training_prompts.py functions --most 20000 --out functions.jsonl PACKAGE_FOLDER ...
python docs/tools/training_prompts.py numbers --times 2 --out questions.jsonl QUESTIONS.jsonl ...

`functions`: the head, description and first examples of every documented function in folders of Python source, to be
completed. `numbers`: questions of prompt files, their numbers changed. Set `prompts.avoid` to what you measure with.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import random
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from orthrus import InputError, read_prompts

sys.path.insert(0, str(Path(__file__).parent))
from prompt_file import write_prompts  # its neighbour, wherever it is run from

TASK = "Complete the following Python function.\n\n"
SECTION = re.compile(r"^\s*(?:[A-Z][A-Za-z ]+\n\s*[-=~]{3,}|[A-Z][a-z]+:\s*$|:\w+|\.\. |@\w+|>>>)", re.MULTILINE)
TYPES = re.compile(r"\b(Any|Callable|Dict|Iterable|Iterator|List|Optional|Sequence|Set|Tuple|Union)\b")
NUMBER = re.compile(r"(?<![\w.,/])\d{1,5}(?![\w/]|[.,]\d)")
LONGEST_DESCRIPTION = 500  # characters
EXAMPLE_LINES = 6
WIDEST = 2.5  # a changed number is between 1 / this and this times the one before


def functions_in(file: Path) -> Iterator[str]:
    """Yield a prompt for each documented function of a Python file outside of classes; none if it is no Python."""
    source = file.read_text(encoding="utf-8", errors="replace").replace("\f", " ")  # a line goes on behind it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about other people's escapes
            module = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    lines = source.splitlines()
    for node in module.body:
        documented = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
        if isinstance(node, ast.FunctionDef) and documented and not node.name.startswith(("_", "test")):
            head = "\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1])
            description = _described(inspect.cleandoc(documented))
            if head.rstrip().endswith(":") and 40 <= len(description) <= LONGEST_DESCRIPTION:
                yield _task(head, description)


def _described(text: str) -> str:
    """Return a description without its sections, and the first examples of how to call the function."""
    match = SECTION.search(text)
    words = (text[: match.start()] if match else text).strip()
    at = text.find(">>>")
    examples = text[at:].split("\n\n", maxsplit=1)[0].splitlines()[:EXAMPLE_LINES] if at >= 0 else []
    return "\n".join([words, *(line.strip() for line in examples)])


def _task(head: str, description: str) -> str:
    names = sorted(set(TYPES.findall(head)))
    begins = f"from typing import {', '.join(names)}\n\n\n" if names else "\n\n"
    quoted = description.replace('"""', "'''").replace("\n", "\n    ")
    return f'{TASK}{begins}{head}\n    """ {quoted}\n    """\n'


def with_other_numbers(question: str, chooser: random.Random) -> str:
    """Return a question whose whole numbers are drawn anew, of about the same size; years stay, repeats are kept."""
    others: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        value = int(match[0])
        if value > 1 and not 1900 <= value <= 2100:
            least, most = max(2, round(value / WIDEST)), max(4, round(value * WIDEST))
            others.setdefault(match[0], str(chooser.randint(least, most)))
        return others.get(match[0], match[0])

    return NUMBER.sub(other, question)


def _functions(given: argparse.Namespace) -> list[str]:
    folders = [Path(name) for name in given.places]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"'{folder}' is no folder")
    every = ((folder, file) for folder in folders for file in folder.rglob("*.py") if file.is_file())
    files = sorted(file for folder, file in every if "tests" not in file.relative_to(folder).parts)
    tasks = list(dict.fromkeys(task for file in files for task in functions_in(file)))
    random.Random(given.seed).shuffle(tasks)
    return tasks[: given.most]


def _numbers(given: argparse.Namespace) -> list[str]:
    chooser = random.Random(given.seed)
    questions = [record.prompt for name in given.places for record in read_prompts(Path(name))]
    return [
        with_other_numbers(question, chooser)
        for _ in range(given.times)
        for question in questions
        if NUMBER.search(question)
    ]


def main(arguments: Iterable[str] | None = None) -> int:
    """Write a file of prompts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["functions", "numbers"])
    parser.add_argument("places", nargs="+", help="folders of source, or prompt files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=20_000, help="functions")
    parser.add_argument("--times", type=int, default=1, help="how often each question's numbers are changed")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(None if arguments is None else list(arguments))
    make = _functions if given.kind == "functions" else _numbers
    return write_prompts(given.out, lambda: [(given.kind, prompt) for prompt in make(given)])


if __name__ == "__main__":
    sys.exit(main())
