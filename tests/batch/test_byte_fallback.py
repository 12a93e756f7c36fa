"""Streaming with a tokenizer that falls back to bytes: the pieces are the text that decoding all tokens gives."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from orthrus.batch.detokenizer import Detokenizer
from orthrus.reference.oracle import completes_string
from orthrus_transformers.loading.tokenizer import TextTokenizer

SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["▁ok", "▁", "a", "é", "b▁"]
IDS = {token: id for id, token in enumerate([*SPECIAL, *BYTES, *PIECES])}
RUNS = [f"<0x{byte:02X}>" for byte in "\n A\u00e9\u2014\U0001f600".encode()] + ["<0xFF>", "<0x80>"]


@functools.cache
def tokenizer() -> TextTokenizer:
    """Return a tokenizer as Llama 2, Mistral and Phi-3 have them, with a small vocabulary."""
    model = Tokenizer(models.BPE(vocab=IDS, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    model.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    model.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=model), chat=False)


def ids(*tokens: str) -> list[int]:
    return [IDS[token] for token in tokens]


tokens = st.lists(st.sampled_from([*RUNS, *PIECES, *SPECIAL]).map(IDS.__getitem__), max_size=12)
characters = st.text("a \n\u00e9\u2014ok", min_size=1, max_size=3)


def fed(answer: Sequence[int], strings: Sequence[str] = ()) -> tuple[Detokenizer, list[str]]:
    """Return a stream and its pieces, one a token until a stop string is complete, and what is held back last."""
    stream, pieces = Detokenizer(tokenizer().decode, strings, tokenizer().byte_tokens), []
    for token in answer:
        pieces.append(stream.feed(token))
        if stream.matched:
            break
    return stream, [*pieces, stream.finish()]


def test_the_tokenizer_replaces_every_byte_of_a_run_that_is_no_text() -> None:
    assert tokenizer().decode(ids("▁ok", "<0x0A>", "<0xF0>", "<0x9F>")) == "ok\ufffd\ufffd\ufffd"
    assert tokenizer().decode(ids("▁ok", "<0x0A>", "</s>", "<0x41>")) == "ok\nA"


@given(tokens)
@example(ids("▁ok", "<0x0A>", "<0xF0>", "<0x9F>"))
@example(ids("<0xE2>", "</s>", "<0x80>", "<s>", "<0x94>", "▁ok"))
def test_the_pieces_of_any_tokens_add_up_to_what_decoding_them_at_once_gives(answer: list[int]) -> None:
    stream, pieces = fed(answer)
    assert "".join(pieces) == stream.text == tokenizer().decode(answer)


@given(tokens, st.lists(characters, min_size=1, max_size=2))
@example(ids("a", "<0x0A>", "<0xF0>"), ["\n"])
def test_a_stop_string_ends_the_pieces_where_it_begins(answer: list[int], strings: list[str]) -> None:
    stream, pieces = fed(answer, strings)
    outputs = [answer[:count] for count in range(1, len(answer) + 1)]
    ending = next((output for output in outputs if completes_string(output, strings, tokenizer().decode)), None)
    assert stream.matched == (ending is not None)
    assert "".join(pieces) == stream.text
    if ending is None:
        assert stream.text == tokenizer().decode(answer)
    else:
        assert len(pieces) == len(ending) + 1
        text = tokenizer().decode(ending)
        assert any(text.startswith(stream.text + string) for string in strings)
