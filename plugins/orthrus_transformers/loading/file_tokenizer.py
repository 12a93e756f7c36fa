"""Tokenizer of a described GGUF file, by the package `tokenizers` alone: transformers is not imported for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from orthrus import BuildError
from orthrus.errors import reason
from orthrus_transformers.loading.chat_template import render_chat
from orthrus_transformers.loading.config_keys import read_json
from orthrus_transformers.loading.tokenizer import TextTokenizer

ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")
TEMPLATE = "chat_template.jinja"


class FileTokenizer:
    """A tokenizer.json behind what `TextTokenizer` asks of transformers' tokenizers, under their names."""

    def __init__(self, directory: Path) -> None:
        """Read the files that transformers saves; raises what the package does if they are damaged."""
        from tokenizers import Tokenizer

        self.backend_tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        named = read_json(directory / "tokenizer_config.json")
        self._roles: Mapping[str, str] = {role: named[role] for role in ROLES if named.get(role) is not None}
        self.bos_token, self.eos_token, self.unk_token, self.pad_token = map(self._roles.get, ROLES)
        template = directory / TEMPLATE
        self.chat_template = template.read_text(encoding="utf-8") if template.is_file() else named.get("chat_template")

    @cached_property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """The tokens that are found in a text before it is split, by id."""
        return dict(self.backend_tokenizer.get_added_tokens_decoder())

    def get_vocab(self) -> Mapping[str, int]:
        """Return the id of each token by its text."""
        vocabulary: Mapping[str, int] = self.backend_tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary

    def encode(self, text: str, *, add_special_tokens: bool = True) -> Sequence[int]:
        """Return the tokens of a text."""
        ids: Sequence[int] = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(
        self, token_ids: Sequence[int], *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """Return the text of tokens."""
        assert not clean_up_tokenization_spaces, "texts are as they are"
        text: str = self.backend_tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)
        return text

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], *, tokenize: bool = False, add_generation_prompt: bool = True
    ) -> str:
        """Return the text of messages."""
        assert not tokenize and add_generation_prompt, "an answer follows"
        assert self.chat_template is not None, "who asks has looked"
        return render_chat(self.chat_template, messages, self._roles)


def load_file_tokenizer(directory: Path, chat: bool) -> TextTokenizer:
    """Return the tokenizer of a described file; raise BuildError if it is damaged."""
    try:
        return TextTokenizer(FileTokenizer(directory), chat)
    except Exception as error:  # the package raises plain exceptions for what it cannot read; the cause is chained
        raise BuildError(f"no tokenizer can be loaded from '{directory}' ({reason(error)})") from error
