"""Streaming text: whole characters only, nothing that may become a stop string, and in the end exactly the text."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from orthrus.batch.detokenizer import Detokenizer, find_stop
from orthrus.reference.oracle import completes_string
from orthrus.testing.profiles import fewer


class Bytes:
    """Be a tokenizer with one token a byte, so that characters are split over tokens; 256 is a special token."""

    def encode(self, prompt: object, chat: bool | None = None) -> list[int]:
        return list(str(prompt).encode())

    def decode(self, token_ids: Sequence[int]) -> str:
        return bytes(token for token in token_ids if token < 256).decode(errors="replace")


def feed(tokens: Sequence[int], strings: Sequence[str] = ()) -> tuple[Detokenizer, list[str]]:
    stream = Detokenizer(Bytes().decode, strings)
    pieces = []
    for token in tokens:
        pieces.append(stream.feed(token))
        if stream.matched:
            break
    return stream, [*pieces, stream.finish()]


@fewer(8)
@given(st.text(max_size=30))
def test_pieces_add_up_to_the_text_and_hold_whole_characters(text: str) -> None:
    stream, pieces = feed(list(text.encode()))
    assert "".join(pieces) == stream.text == text
    assert "\ufffd" in text or all("\ufffd" not in piece for piece in pieces)


@given(st.lists(st.integers(0, 256), max_size=30))
@example([0xE2, 0x82, 0x41])
@example([0xF0, 256, 0x9F, 0x98, 0x80])
def test_any_bytes_give_what_decoding_them_at_once_gives(tokens: list[int]) -> None:
    _, pieces = feed(tokens)
    assert "".join(pieces) == Bytes().decode(tokens)


class ByteRuns(Bytes):
    """Have tokens that stand for single bytes: a run of them is decoded as one."""

    byte_tokens = frozenset(range(128, 256))


@given(st.lists(st.lists(st.integers(0, 256), min_size=1, max_size=5), max_size=8), st.booleans())
@example([[0xE2, 0x82], [0xAC, 0x41], [0xF0]], True)
def test_tokens_that_come_together_show_what_they_show_one_by_one(groups: list[list[int]], runs: bool) -> None:
    bytes_alone = ByteRuns.byte_tokens if runs else frozenset()
    single, joined = (Detokenizer(Bytes().decode, (), bytes_alone) for _ in range(2))
    for group in groups:
        assert joined.extend(group) == "".join(map(single.feed, group))
    assert joined.finish() == single.finish() and joined.text == single.text


@given(st.text("abé", max_size=20), st.lists(st.text("abé", min_size=1, max_size=4), min_size=1, max_size=3))
def test_nothing_of_a_stop_string_is_ever_shown(text: str, strings: list[str]) -> None:
    stream, pieces = feed(list(text.encode()), strings)
    shown, ends = "".join(pieces), [text.find(string) + len(string) for string in strings if string in text]
    if not ends:
        assert shown == text and not stream.matched
        return
    first = min(ends)  # where the first string is complete; of those complete there, the earliest start counts
    starts = {string: text.find(string) for string in strings if string in text}
    complete = [start for string, start in starts.items() if start + len(string) <= first]
    assert stream.matched and shown == text[: min(complete)]


def test_find_stop_wants_a_match_that_ends_in_the_new_text() -> None:
    assert find_stop("abcab", 3, ["ab"]) == 3
    assert find_stop("abc", 2, ["ab"]) is None
    assert find_stop("abc", 1, ["ab"]) == 0
    assert find_stop("xabc", 3, ["bc", "abc"]) == 1


@given(
    st.lists(st.sampled_from([b"a", b" ", b" \xe2\x80", b"\x94", b"\xe2", b"\x80\x94 a", b"ab"]), max_size=8),
    st.sampled_from([" ", "a", "\u2014", "a ", "\u2014 a"]),
)
def test_a_stop_string_completes_with_the_same_token_as_the_oracles(pieces: list[bytes], string: str) -> None:
    class Pieces:
        """Be a tokenizer whose tokens are runs of bytes, whole characters or not."""

        def encode(self, prompt: object, chat: bool | None = None) -> list[int]:
            raise AssertionError("a stream only decodes")

        def decode(self, token_ids: Sequence[int]) -> str:
            return b"".join(pieces[token] for token in token_ids).decode(errors="replace")

    stream, ended = Detokenizer(Pieces().decode, [string]), None
    for token in range(len(pieces)):
        stream.feed(token)
        if stream.matched:
            ended = token
            break
    outputs = [list(range(count + 1)) for count in range(len(pieces))]
    wanted = [output[-1] for output in outputs if completes_string(output, [string], Pieces().decode)]
    assert ended == (wanted[0] if wanted else None)
