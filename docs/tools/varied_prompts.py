r"""Write prompts of many kinds for training a view: writing, roles, extraction, dialogue, translation, retrieval, ...

python docs/tools/varied_prompts.py --most 14000 --out varied.jsonl docs \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

Passages come from the folders that are named: paragraphs of their Markdown, reStructuredText and plain text files, and
of the docstrings of their Python source. All else is put together from lists, each prompt once. Set `prompts.avoid` to
what you measure with.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from orthrus import InputError

sys.path.insert(0, str(Path(__file__).parent))
from prompt_file import write_prompts  # its neighbour, wherever it is run from

SHORTEST, LONGEST = 120, 700  # characters of a passage
TEXTS = {".md", ".rst", ".txt"}
NO_PROSE = re.compile(r"^[^A-Z]|`|:\w+|\w:\s|\s:\s|--|>>>|https?:|[{}<>|=\[\]_]")  # code, fields, links


def _listed(text: str) -> list[str]:
    return text.split(", ")


LANGUAGES = ("French", "Spanish", "German", "Italian", "Portuguese", "Dutch", "Polish", "Latin")
TOPICS = _listed(
    "autumn, a lighthouse, learning to swim, an old bicycle, the night sky, a lost letter, city gardens, bees, a long "
    "train ride, the first day at a new job, coffee, a broken clock, moving house, rivers, honesty, a small bakery, "
    "volcanoes, a cat that hides, public libraries, snow in April, friendship, an island market, patience, robots, "
    "wind power, an unexpected guest, the history of paper, a chess game, healthy breakfasts, remote work, glaciers, "
    "saving money, a school play, forests at dawn, artificial intelligence, a family recipe, deserts, sleep, a "
    "bridge, ancient maps, teamwork, a storm at sea, recycling, a village festival, music lessons, the moon, "
    "forgiveness"
)
FORMS = _listed(
    "a short story, a poem, a blog post, a letter to a friend, a product description, a news report, a speech, a "
    "diary entry, a persuasive essay, a fable, an email to a colleague, a review, an advertisement, a travel report, "
    "a dialogue between two strangers, the opening of a novel, a list of ten tips, a limerick, an outline"
)
LIMITS = (
    "",
    " in about 100 words",
    " in three paragraphs",
    " for children",
    " with a surprising end",
    " in simple words",
)
ROLES = _listed(
    "a ship's captain, a patient teacher, a detective, a gardener, a doctor on a quiet night shift, a museum guide, a "
    "chef, a medieval knight, an astronaut, a librarian, a football coach, a judge, a talking tree, a time traveller, "
    "a mathematician, a travel agent, a grandmother, a mechanic, an economist, a pirate"
)
ASKS = (
    "Explain to me why {} matters to you.",
    "What would you tell a beginner about {}?",
    "Describe your day, which has to do with {}.",
    "I know nothing of {}. Convince me to care.",
    "Answer me in your own way: what is hard about {}?",
)
NAMES = ("Mara", "Tom", "Aisha", "Lena", "Victor", "Chen", "Rosa", "Emil", "Nadia", "Paul", "Ingrid", "Samuel")
PLACES = ("Lisbon", "Oslo", "Nairobi", "Kyoto", "Toronto", "Lima", "Prague", "Dublin", "Hanoi", "Quito")
THINGS = ("laptops", "chairs", "bags of rice", "tickets", "lamps", "bicycles", "printers", "books", "tents", "blankets")
MONTHS = ("January", "March", "April", "June", "August", "October", "December")
SHAPES = ("as JSON", "as a table", "as a list", "as CSV with a header", "as one line each")


class Chooser(random.Random):
    """A source of chance that makes prompts."""

    def __init__(self, seed: int, passages: Sequence[str]) -> None:
        super().__init__(seed)
        self._passages = passages

    def passages(self, count: int) -> list[str]:
        """Return different passages."""
        return self.sample(self._passages, min(count, len(self._passages)))

    def writing(self) -> str:
        """Return a request to write something."""
        return f"Write {self.choice(FORMS)} about {self.choice(TOPICS)}{self.choice(LIMITS)}."

    def role(self) -> str:
        """Return a request to answer as somebody."""
        begins = self.choice(("Pretend that you are", "Imagine that you are", "Take the role of", "You are"))
        return f"{begins} {self.choice(ROLES)}. {self.choice(ASKS).format(self.choice(TOPICS))}"

    def extraction(self) -> str:
        """Return a request for the facts of made-up sentences."""
        facts = []
        for _ in range(self.randint(2, 5)):
            name, other = self.sample(NAMES, 2)
            day, count, price = self.randint(1, 28), self.randint(2, 90), self.randint(5, 900)
            facts.append(
                f"On {self.choice(MONTHS)} {day}, {name} from {self.choice(PLACES)} bought {count}"
                f" {self.choice(THINGS)} from {other} for ${price}."
            )
        what = self.choice(("buyer, place, date, thing and price", "names and amounts", "dates and prices"))
        return f"Extract the {what} of each sale {self.choice(SHAPES)}.\n\n{' '.join(facts)}"

    def dialogue(self) -> str:
        """Return a conversation of several turns to be gone on with."""
        first, second = self.sample(NAMES, 2)
        topic, other = self.sample(TOPICS, 2)
        turns = [
            f"{first}: {self.choice(('I often think about', 'Let me tell you about', 'Tell me about'))} {topic}.",
            f"{second}: {self.choice(('Really? What about it?', 'I know little of that.', 'That again!'))}",
            f"{first}: {self.choice(('It reminds me of', 'It is much like', 'I like it more than'))} {other}.",
            f"{second}: {self.choice(('Why is that?', 'I do not see how.', 'Give me an example.'))}",
        ][: self.choice((2, 3, 4))]
        asked = self.choice(("Continue this conversation.", "Write the next four turns.", "How does this end?"))
        return f"{asked}\n\n" + "\n".join(turns)

    def translation(self) -> str:
        """Return a request to translate the first sentences of a passage, or to write it anew."""
        text = " ".join(re.split(r"(?<=[.!?])\s+", self.passages(1)[0])[:2])
        asked = (f"Translate into {self.choice(LANGUAGES)}:", "Rewrite this for a child:", "Say this more briefly:")
        return f"{self.choice(asked)}\n\n{text}"

    def summary(self) -> str:
        """Return a request to summarize several passages."""
        size = self.choice(("one sentence", "two sentences", "three bullet points", "fifty words"))
        return f"Summarize the following text in {size}.\n\n" + "\n\n".join(self.passages(self.randint(1, 2)))

    def retrieval(self) -> str:
        """Return a question about one of several passages."""
        texts = self.passages(self.randint(2, 3))
        words = re.findall(r"[A-Za-z]{6,}", self.choice(texts)) or ["text"]
        listed = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
        asked = self.choice(("What do they say about", "Which passage is about", "Using them alone, explain"))
        return f'Here are some passages.\n\n{listed}\n\n{asked} "{self.choice(words)}"? Name the passage.'


KINDS: dict[str, Callable[[Chooser], str]] = {
    "writing": Chooser.writing,
    "role": Chooser.role,
    "extraction": Chooser.extraction,
    "dialogue": Chooser.dialogue,
    "translation": Chooser.translation,
    "summary": Chooser.summary,
    "retrieval": Chooser.retrieval,
}


def passages_in(file: Path) -> Iterator[str]:
    """Yield the paragraphs of prose in a text, or in the docstrings of a Python file, on one line each."""
    source = file.read_text(encoding="utf-8", errors="replace")
    for text in _docstrings(source) if file.suffix == ".py" else [source]:
        for paragraph in re.split(r"\n\s*\n", text):
            line = " ".join(paragraph.split())
            if SHORTEST <= len(line) <= LONGEST and line.endswith(".") and not NO_PROSE.search(line):
                yield line


def _docstrings(source: str) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about other people's escapes
            module = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield inspect.cleandoc(text)


def read_passages(folders: Iterable[Path]) -> list[str]:
    """Return all passages of folders, each once."""
    files = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"'{folder}' is no folder")
        files += sorted(file for file in folder.rglob("*") if file.suffix in {*TEXTS, ".py"} and file.is_file())
    passages = list(dict.fromkeys(passage for file in files for passage in passages_in(file)))
    if len(passages) < 3:
        raise InputError(f"there are {len(passages)} passages of prose in {', '.join(map(str, folders))}; name others")
    return passages


def make_prompts(passages: Sequence[str], most: int, seed: int) -> list[tuple[str, str]]:
    """Return so many different prompts and their kinds, of each kind as many, or fewer if there are no more."""
    chooser, prompts = Chooser(seed, passages), dict[str, str]()
    for number in range(3 * most):
        kind = list(KINDS)[number % len(KINDS)]
        prompts.setdefault(KINDS[kind](chooser), kind)
        if len(prompts) == most:
            break
    return [(kind, prompt) for prompt, kind in prompts.items()]


def main(arguments: Iterable[str] | None = None) -> int:
    """Write a file of prompts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of texts and source")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=14_000, help="prompts")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(None if arguments is None else list(arguments))
    return write_prompts(given.out, lambda: make_prompts(read_passages(given.folders), given.most, given.seed))


if __name__ == "__main__":
    sys.exit(main())
