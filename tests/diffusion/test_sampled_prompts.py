"""The prompts that the model writes itself: after which tokens, with which openings, which are kept, in what order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.released import target_at
from support.trainable import LETTERS, end_answers_with, lay_out, put_tokenizer, tiny_model

from orthrus import Decoder, InputError, Result, Tokenizer
from orthrus_diffusion.training import prompts
from orthrus_diffusion.training.process_group import Workers
from orthrus_diffusion.training.prompts import make_prompts, opening_tokens, user_header
from orthrus_diffusion.training.session import TrainingSession

ENDS = "KLWX"
SETTINGS = ("prompts.sampled=11", 'prompts.openings=["",bc,x]', "prompts.max_new_tokens=12", "prompts.batch=4")
OPENINGS = ["", "bc", "x", ""], ["bc", "x", "", "bc"], ["x", "", "bc"]  # of each part: each as often


@dataclass
class Asked:
    """Hold what the decoders of a stage were given, and what they gave."""

    seeds: list[int] = field(default_factory=list)
    given: list[list[list[int]]] = field(default_factory=list)
    results: list[list[Result]] = field(default_factory=list)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a model that ends many of the prompts that it writes, but not all."""
    model = tiny_model(tmp_path_factory.mktemp("sampled") / "base")
    end_answers_with(model, ENDS)
    return model


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Make parts of four prompts, and note what is decoded."""

    def generate(self: Decoder, given: Sequence[Any], *more: Any, **named: Any) -> list[Result]:
        results = own(self, given, *more, **named)
        noted.seeds.append(self.seed)
        noted.given.append([list(prompt) for prompt in given])
        noted.results.append(results)
        return results

    noted, own = Asked(), Decoder.generate
    monkeypatch.setattr(Decoder, "generate", generate)
    monkeypatch.setattr(prompts, "PART", 4)
    return noted


def made(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Path:
    """Let the stage run in a folder; return where it left its files."""
    if not folder.exists():
        folder.mkdir()
        lay_out(base, folder)
    monkeypatch.chdir(folder)
    make_prompts(TrainingSession.read(folder / "train.yaml", [*SETTINGS, *overrides], Workers(), lambda message: None))
    return folder / "out"


def texts(file: Path) -> list[str]:
    return [json.loads(line)["prompt"] for line in file.read_text(encoding="utf-8").splitlines()]


def contents(out: Path) -> dict[str, bytes]:
    """Return the prompts' files."""
    files = [*out.glob("*.jsonl"), *out.glob("prompts/part-*")]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def tokens(text: str) -> list[int]:
    return [LETTERS.index(letter) for letter in text]


def test_the_model_writes_after_the_header_and_an_opening(
    base: Path, tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = made(base, tmp_path / "a", monkeypatch)
    assert asked.given == [[tokens(f"u{opening}") for opening in part] for part in OPENINGS]
    kept = []
    for index, openings in enumerate(OPENINGS):
        pairs = zip(openings, asked.results[index], strict=True)
        wanted = [opening + "".join(LETTERS[token] for token in result.token_ids) for opening, result in pairs]
        written = texts(out / "prompts" / f"part-0000{index}.jsonl")
        assert written == [text for text in wanted if text[-1] in ENDS]  # letters: no special token, which no text has
        kept += written
    assert 4 < len(kept) < 11  # some do not end, and are dropped
    assert texts(out / "prompts.jsonl") == list(dict.fromkeys([*kept, "abc", "bcdefg", "cegik", "fedcba"]))


@pytest.mark.thorough
def test_every_part_has_a_seed_of_its_own(
    base: Path, tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = contents(made(base, tmp_path / "a", monkeypatch, "prompts.openings=[x]"))
    assert len(set(asked.seeds)) == 3
    assert len({tuple(result.token_ids for result in part[:3]) for part in asked.results}) == 3
    assert contents(made(base, tmp_path / "b", monkeypatch, "prompts.openings=[x]")) == first
    assert asked.seeds[3:] == asked.seeds[:3]
    other = contents(made(base, tmp_path / "c", monkeypatch, "prompts.openings=[x]", "training.seed=7"))
    assert all(other[name] != text for name, text in first.items())
    assert not set(asked.seeds[6:]) & {0, 7}  # nor that of answers


def test_parts_that_are_there_are_not_made_again(
    base: Path, tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = made(base, tmp_path / "a", monkeypatch)
    before = contents(out)
    for name in ("prompts.jsonl", "prompts/part-00001.jsonl"):
        (out / name).unlink()
    made(base, tmp_path / "a", monkeypatch)
    assert contents(out) == before
    assert asked.given[3:] == asked.given[1:2]
    made(base, tmp_path / "a", monkeypatch)
    assert len(asked.given) == 4  # all is there


def test_sampled_prompts_are_held_out(
    base: Path, tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = made(base, tmp_path / "a", monkeypatch, "eval.files=[]", "eval.prompts=3")
    held_out, kept = texts(out / "held-out.jsonl"), texts(out / "prompts.jsonl")
    sampled = dict.fromkeys(text for part in range(3) for text in texts(out / "prompts" / f"part-0000{part}.jsonl"))
    assert held_out == list(sampled)[:3]
    assert not set(held_out) & set(kept)


@pytest.fixture(scope="module")
def tokenizers(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """Return tokenizers of different kinds of models."""
    folder, folders = tmp_path_factory.mktemp("tokenizers"), {}
    system = "sys{% for one in messages %}u{{ one['content'] }}{% endfor %}v"
    kinds: dict[str, dict[str, str]] = {
        "plain": {},
        "begins": {"begin": "q"},
        "system": {"template": system, "begin": "q"},
        "small": {"letters": LETTERS[:26]},
        "strict": {"template": "{{ raise_exception('a system message is needed; add one') }}"},
    }
    for name, options in kinds.items():
        shutil.copytree(base, folder / name)
        put_tokenizer(folder / name, **options)
        tokenizer = target_at(folder / name).tokenizer
        assert tokenizer is not None
        folders[name] = tokenizer
    return folders


def test_the_header_is_what_stands_before_a_users_text(tokenizers: dict[str, Tokenizer]) -> None:
    assert user_header(tokenizers["plain"]) == user_header(tokenizers["begins"]) == tokens("u")
    assert user_header(tokenizers["system"]) == tokens("sysu")


@pytest.mark.parametrize("opening", ["", "a", "Z", "abc", "qa", "q"])
@pytest.mark.parametrize("kind", ["plain", "begins"])
def test_an_opening_has_no_token_that_begins_texts(opening: str, kind: str, tokenizers: dict[str, Tokenizer]) -> None:
    assert opening_tokens(tokenizers[kind], opening) == tokens(opening)


def test_a_space_that_is_joined_to_the_opening_stays() -> None:
    class Joining:
        """Put a space before any text, and join it with some words, as SentencePiece does."""

        def encode(self, prompt: Any, chat: bool | None = None) -> list[int]:
            return [1, 30] if prompt == "Write" else [1, 2, *map(ord, prompt)]

        def decode(self, token_ids: Sequence[int]) -> str:
            raise NotImplementedError

    assert opening_tokens(Joining(), "Write") == [30]
    assert opening_tokens(Joining(), "Say") == [ord(letter) for letter in "Say"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("small", "the tokenizer refuses the text: WordLevel error: Missing [UNK] token from the vocabulary"),
        ("strict", "the chat template refuses the messages: a system message is needed"),
    ],
)
def test_a_model_that_cannot_write_a_users_turn(kind: str, reason: str, tokenizers: dict[str, Tokenizer]) -> None:
    with pytest.raises(InputError) as refused:
        user_header(tokenizers[kind])
    assert str(refused.value) == (
        f"{reason}, so a user's turn cannot be written; put a chat_template.jinja beside the model's weights, or set"
        " prompts.sampled=0 and prompts.files"
    )
