"""A Hugging Face tokenizer behind the interface of the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orthrus import InputError, Prompt
from orthrus_transformers.loading.time_limit import TimeLimitError, time_limit

TEMPLATE_SECONDS = 10.0  # templates take milliseconds, and are programs of whoever made the model

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]  # tokens of a vocabulary that falls back to bytes


class TextTokenizer:
    """Encode text (through the chat template, unless told otherwise), chat messages, or nothing but text."""

    def __init__(self, tokenizer: Any, chat: bool) -> None:
        self._tokenizer = tokenizer
        self._chat = chat
        self.byte_tokens = frozenset(_byte_tokens(tokenizer))
        self._texts: dict[int, str] = {}  # of single tokens, which text that is shown as it comes asks for at every one

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The ids of special tokens, which `decode` leaves out, by their text."""
        return {str(token): id for id, token in self._tokenizer.added_tokens_decoder.items() if token.special}

    def description(self) -> Mapping[str, str | None]:
        """Return the texts of tokens that play a part, and the template of chats."""
        names = ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template")
        values = {name: getattr(self._tokenizer, name, None) for name in names}
        return {name: None if value is None else str(value) for name, value in values.items()}

    def vocabulary(self) -> Mapping[str, int]:
        """Return the id of each token by its text."""
        tokens: Mapping[str, int] = self._tokenizer.get_vocab()
        return tokens

    def encode(self, prompt: Prompt, chat: bool | None = None) -> list[int]:
        """Return the prompt's tokens; raise InputError if there is no template for a chat, or the text is refused."""
        if isinstance(prompt, str):
            as_chat = self._chat if chat is None else chat
            if not as_chat or (chat is None and not self._tokenizer.chat_template):
                return self._tokens(prompt)
            prompt = [{"role": "user", "content": prompt}]
        if not self._tokenizer.chat_template:
            raise InputError("the model has no chat template; give text with --raw (chat=False), or token ids")
        try:
            with time_limit(TEMPLATE_SECONDS):
                text = self._tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        except TimeLimitError as error:
            raise InputError(
                f"the chat template did not end in {TEMPLATE_SECONDS:g} s and was stopped; give text with --raw"
                " (chat=False), or token ids"
            ) from error
        except Exception as error:  # templates are programs and raise what they like
            raise InputError(f"the chat template refuses the messages: {_said(error)}") from error
        return self._tokens(text, add_special_tokens=False)  # the template wrote them already

    def _tokens(self, text: str, add_special_tokens: bool = True) -> list[int]:
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))
        except Exception as error:  # tokenizers raise no narrower one for characters that they lack
            raise InputError(f"the tokenizer refuses the text: {_said(error)}") from error

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text without special tokens, spaces as they are."""
        if len(token_ids) != 1:
            return self._decode(token_ids)
        [token_id] = token_ids
        if token_id not in self._texts:
            self._texts[token_id] = self._decode(token_ids)
        return self._texts[token_id]

    def _decode(self, token_ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)


def _byte_tokens(tokenizer: Any) -> Iterator[int]:
    """Yield the ids of tokens that stand for single bytes; a vocabulary without byte fallback has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)  # asked token by token: all of them are a dictionary
    find = tokenizer.get_vocab().get if backend is None else backend.token_to_id
    return (number for number in map(find, BYTES) if number is not None)


def _said(error: Exception, most: int = 300) -> str:
    """Return what an error of a model's own files says, in one line."""
    return " ".join(str(error).split())[:most]
