"""The watcher `trace` and the command that draws it: the same tokens, every step in the file, and bad input."""

from __future__ import annotations

import json
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.program import InProcess
from support.watching import plain

import orthrus
from orthrus import InputError, Result
from orthrus.errors import OrthrusError
from orthrus.testing.profiles import fewer
from orthrus_trace.page import page
from orthrus_trace.statistics import along_text, positions, seconds_by_part, totals
from orthrus_trace.token_texts import TokenTexts
from orthrus_trace.trace_file import PARTS, Trace, TracedRequest, TracedStep, read_trace

RECIPE = "table-prompt-lookup"
PNG = b"\x89PNG\r\n\x1a\n"


def traced(folder: Path, prompts: list[str], batch: int = 2, name: str = "trace.jsonl", **more: Any) -> list[Result]:
    decoder = orthrus.load(RECIPE, trace={"file": str(folder / name), "overwrite": True}, **more)
    return decoder.generate(prompts, batch=batch)


@fewer(12)
@given(
    prompts=st.lists(st.text("abcdefgh ", min_size=1, max_size=9), min_size=1, max_size=4),
    batch=st.integers(1, 3),
    seed=st.integers(0, 99),
    temperature=st.sampled_from([0, 1.0]),
)
def test_runs_with_and_without_it_are_the_same_and_every_token_is_in_it(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str], batch: int, seed: int, temperature: float
) -> None:
    folder = tmp_path_factory.mktemp("trace")
    more: dict[str, Any] = {"sampling": {"temperature": temperature}, "stop": {"max_new_tokens": 24}, "seed": seed}
    more["verifier"] = "coupled"
    expected = orthrus.load(RECIPE, **more).generate(prompts, batch=batch)
    results = traced(folder, prompts, batch, **more)
    assert [plain(result) for result in results] == [plain(result) for result in expected]
    trace = read_trace(folder / "trace.jsonl")
    assert [request.id for request in trace.requests] == [result.id for result in sorted(results, key=of_first_step)]
    for request in trace.requests:
        result = results[int(request.id)]
        assert [token for step in request.steps for token in step.committed] == list(result.token_ids)
        assert "".join(text for step in request.steps for text in step.texts) == result.text
        assert [step.accepted for step in request.cycles] == list(result.measures.accepted_per_cycle)
        assert request.finish_reason == result.finish_reason
    drawn = page(trace, "x", 2)
    Parsed(drawn)


def of_first_step(result: Result) -> int:
    return int(result.id)  # prompts take rows in their order


class Parsed(HTMLParser):
    """Read a page: every element is closed in its turn, and nothing is fetched or run."""

    VOID = ("meta", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe"), tag
        assert not [name for name, _ in attrs if name in ("src", "href", "style") and "url(" in str(attrs)]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def step(
    drafted: list[int], accepted: int, committed: list[int], texts: list[str], prefill: bool = False
) -> TracedStep:
    return TracedStep(prefill, drafted, accepted, committed, texts, [f"<{token}>" for token in drafted])


def example(cut: bool = False) -> Trace:
    steps = [
        step([], 0, [7], ["<b>"], prefill=True),
        step([1, 2, 3], 2, [1, 2, 9], ["one", "\x1b[1m\n", ""]),
        step([4], 0, [5], ["\ud800"]),
        step([], 0, [6], ["&amp;"]),
    ]
    seconds = dict.fromkeys(PARTS, 0.25)
    requests = [TracedRequest("<i>", steps, "length"), TracedRequest("second", steps[:1])]
    return Trace("<target>", "drafter & sons", requests, [seconds] * 4, [True, False, False, False], cut)


def test_a_page_shows_foreign_text_as_it_is_and_lets_none_of_it_be_markup() -> None:
    text = page(example(cut=True), "<name>.jsonl", 20)
    shown = Parsed(text).text
    for part in (
        "<b>",
        "one",
        "&amp;",
        "<target>",
        "drafter & sons",
        "Request <i>",
        "<name>.jsonl",
        "[9]",
        "<3>",
        "cut short",
    ):
        assert part in shown, part
    assert "\x1b" not in text
    text.encode("utf-8")
    assert '<b title="2 of 3 drafts accepted">one\ufffd[1m\n</b>' in text
    assert "1 more requests" in page(example(), "x", 1) and "more requests" not in shown


def test_of_a_tree_what_is_not_on_the_path_is_refused() -> None:
    tree = step([1, 2, 3, 2], 2, [2, 3, 9], ["a", "b", "c"])
    assert list(tree.refused) == [0, 3]
    assert list(step([1, 2, 3], 2, [1, 2, 9], []).refused) == [2]


def test_statistics_count_what_was_drafted_and_accepted() -> None:
    trace = example()
    cycles = [cycle for request in trace.requests for cycle in request.cycles]
    assert [(place.number, place.drafted, place.accepted) for place in positions(cycles)] == [
        (1, 2, 1),
        (2, 1, 1),
        (3, 1, 0),
    ]
    assert along_text(trace.requests[0].cycles) == [(1, 3, 3, 2), (4, 1, 1, 0), (5, 1, 0, 0)]
    assert seconds_by_part(trace) == dict.fromkeys(PARTS, 1.0)
    sums = totals(trace)
    assert (sums.cycles, sums.steps, sums.prefills, sums.new_tokens, sums.seconds) == (3, 3, 1, 7, 5.0)
    assert sums.accepted_length == pytest.approx(2 / 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a trace of two requests."""
    folder = tmp_path_factory.mktemp("whole")
    traced(folder, ["abc", "ba"], stop={"max_new_tokens": 16})
    return (folder / "trace.jsonl").read_bytes()


@given(data=st.data())
def test_of_a_trace_that_is_cut_anywhere_the_whole_lines_are_read(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(whole)))
    file = tmp_path_factory.mktemp("cut") / "t.jsonl"
    file.write_bytes(whole[:end])
    lines = whole[:end].count(b"\n")
    try:
        trace = read_trace(file)
    except InputError as error:
        assert lines < 2 and "\n" not in str(error)
        return
    assert trace.cut == (not whole[:end].endswith(b"\n"))
    steps = [line for line in whole.splitlines()[1:lines] if b"rows" in line]
    assert len(trace.seconds) == len(steps) > 0


@fewer(2)
@given(data=st.data())
def test_a_trace_with_a_damaged_byte_is_read_or_refused_in_one_sentence(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[place] = data.draw(st.sampled_from(b'{}[]",:x0-9\n\xff'))
    file = tmp_path_factory.mktemp("damaged") / "t.jsonl"
    file.write_bytes(damaged)
    try:
        Parsed(page(read_trace(file), "x", 9))
    except InputError as error:
        assert "\n" not in str(error)


WRONG = {
    "an empty file": ("", "is no trace"),
    "no JSON": ("hello\n", "is no trace"),
    "other JSON": ('{"id": "0", "prompt": "x"}\n', "is no trace"),
    "a later version": ('{"orthrus_trace": 2, "target": "t", "drafter": "d"}\n', "has version 2; this program reads 1"),
    "nothing decoded": ('{"orthrus_trace": 1, "target": "t", "drafter": "d"}\n', "has no step"),
    "a damaged middle": ('{"orthrus_trace": 1, "target": "t", "drafter": "d"}\n{"rows"\n{}\n', "line 2, is no JSON"),
    "a foreign line": ('{"orthrus_trace": 1, "target": "t", "drafter": "d"}\n{"a": 1}\n', "line 2, is of no step"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_trace_is_refused_and_nothing_is_written(orthrus: InProcess, tmp_path: Path, what: str) -> None:
    text, why = WRONG[what]
    file = tmp_path / "t.jsonl"
    file.write_text(text, encoding="utf-8")
    assert why in orthrus("trace", file).error()
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


def test_the_command_writes_a_page_and_replaces_nothing_unasked(
    orthrus: InProcess, tmp_path: Path, whole: bytes
) -> None:
    file, html = tmp_path / "t.jsonl", tmp_path / "t.jsonl.html"
    file.write_bytes(whole[:-9])
    done = orthrus("trace", file)
    assert (done.code, done.out) == (0, f"{html}: requests: 2, steps: {len(read_trace(file).seconds)}\n")
    assert done.err == f"the last line of '{file}' is cut short, and left out\n"
    html.write_text("mine", encoding="utf-8")
    assert f"'{html}' exists; name another file, or add --overwrite" in orthrus("trace", file).error()
    assert html.read_text(encoding="utf-8") == "mine"
    assert orthrus("trace", file, "--overwrite").code == 0 and "<svg" in html.read_text(encoding="utf-8")
    assert "is the trace itself" in orthrus("trace", file, "--out", file, "--overwrite").error()
    assert "is a directory" in orthrus("trace", file, "--out", tmp_path).error()
    assert "is the file of --out" in orthrus("trace", file, "--out", tmp_path / "n", "--png", tmp_path / "n").error()
    assert file.read_bytes() == whole[:-9]


@pytest.mark.thorough
def test_the_picture_is_a_png_of_that_trace(orthrus: InProcess, tmp_path: Path, whole: bytes) -> None:
    from matplotlib.image import imread

    file = tmp_path / "t.jsonl"
    file.write_bytes(whole)
    nothing = whole.replace(b'"accepted": ', b'"accepted": 0, "was": ')
    (tmp_path / "n.jsonl").write_bytes(nothing)
    for name in ("t", "n"):
        assert orthrus("trace", tmp_path / f"{name}.jsonl", "--png", tmp_path / f"{name}.png").code == 0
    pictures = [imread(tmp_path / f"{name}.png") for name in ("t", "n")]
    green = [((picture[..., 1] > 0.5) & (picture[..., 0] < 0.1)).mean() for picture in pictures]
    assert (tmp_path / "t.png").read_bytes().startswith(PNG)
    assert green[0] > 0.05 > green[1]  # bars of what was accepted


def test_without_matplotlib_the_picture_is_refused_before_anything(
    orthrus: InProcess, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.jsonl"
    file.write_bytes(whole)
    monkeypatch.setattr("orthrus_trace.picture.find_spec", lambda name: None)
    assert "--png needs matplotlib: pip install" in orthrus("trace", file, "--png", tmp_path / "t.png").error()
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


REFUSED = {
    "an existing file": ("there.jsonl", "exists; name another file, or set trace.overwrite=true"),
    "a folder": ("folder", "is a directory"),
    "a missing folder": ("gone/t.jsonl", "there is no folder"),
    "no name": ("", "must name a file"),
    "a name that is too long": ("n" * 300, "can be no file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_cannot_be_written_is_refused_before_decoding(tmp_path: Path, what: str) -> None:
    (tmp_path / "there.jsonl").write_text("mine", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    name, why = REFUSED[what]
    with pytest.raises(OrthrusError, match=why):
        orthrus.load(RECIPE, trace={"file": str(tmp_path / name) if name else ""})
    assert (tmp_path / "there.jsonl").read_text(encoding="utf-8") == "mine"


def test_a_decoder_that_decodes_nothing_writes_nothing(tmp_path: Path) -> None:
    orthrus.load(RECIPE, trace={"file": str(tmp_path / "t.jsonl")}).steps([[1]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_ends_the_trace_and_not_the_decoding() -> None:
    expected = orthrus.load(RECIPE).generate(["abc", "b"])
    decoder = orthrus.load(RECIPE, trace={"file": "/dev/full", "overwrite": True})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        results = decoder.generate(["abc", "b"])
    assert [plain(result) for result in results] == [plain(result) for result in expected]
    assert [str(warning.message) for warning in said] == [
        "the trace '/dev/full' ends here, as it cannot be written: No space left on device; decoding goes on"
    ]


def test_a_tokenizer_that_fails_leaves_a_trace_without_texts() -> None:
    class Failing:
        def encode(self, prompt: Any, chat: bool | None = None) -> list[int]:
            return [1]

        def decode(self, token_ids: Any) -> str:
            if 3 in token_ids:
                raise ValueError("no such token")
            return "".join(map(str, token_ids))

    texts = TokenTexts(Failing())
    assert texts.committed([1, 2], last=False) == ["1", "2"] and texts.error is None
    assert texts.drafted([3]) is None and texts.error == "ValueError: no such token"
    assert texts.committed([1], last=True) is None
    assert TokenTexts(None).committed([1], last=True) is None


def test_numbers_are_told_of_requests_whose_ids_are_the_same(tmp_path: Path) -> None:
    decoder = orthrus.load(RECIPE, trace={"file": str(tmp_path / "t.jsonl")}, stop={"max_new_tokens": 3})
    for _ in range(2):
        decoder.generate(["abc"], ids=["same"])
    trace = read_trace(tmp_path / "t.jsonl")
    assert [request.id for request in trace.requests] == ["same", "same"]
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["request"] for line in lines if "new_tokens" in line] == [0, 1]
