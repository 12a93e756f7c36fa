"""The page in a real browser: conversations by keyboard, drafts as they are accepted, and no text taken for markup."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.browser import Browser, browser
from support.serving import NAME, Served, Talking, decoder_of, letters_target, serving

from orthrus import Decoder, Stop
from orthrus.reference.table import TableTarget
from orthrus_caches.dynamic import DynamicCache
from orthrus_cascade.drafter import Cascade
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.suffix import Suffix
from orthrus_verifiers.coupled import Coupled

pytestmark = pytest.mark.browser
DONE = "document.getElementById('send').textContent === 'Send' && document.querySelector('.answer')"
# What copying takes along and assistive technology reads: no rejected draft is part of it.
SHOWN = """[...document.querySelectorAll('.answer > .text')].map(
    text => [...text.children].filter(part => part.localName === 'span').map(part => part.textContent).join(''))"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Give a browser, for all tests of this file."""
    with browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


def opened(chromium: Browser, served: Served) -> Browser:
    """Open the page, as its settings are at first."""
    chromium.events.clear()
    chromium.look()
    chromium.open(served.url)
    chromium.wait_for("document.querySelector('#first-model option') || document.querySelector('#status').textContent")
    return chromium


def say(chromium: Browser, text: str) -> None:
    """Type a message and send it by keyboard; wait for the answers."""
    assert chromium.focused() == "prompt"
    chromium.type(text)
    chromium.press("Enter")
    chromium.wait_for(DONE)


def answers(served: Served, *contents: str, **settings: object) -> list[str]:
    """Return what the server answers to each message of a dialogue, asked for as whole answers."""
    messages: list[dict[str, str]] = []
    for content in contents:
        messages.append({"role": "user", "content": content})
        answer = served.post("/v1/chat/completions", messages=messages, **settings).json()
        messages.append(answer["choices"][0]["message"])
    return [message["content"] for message in messages[1::2]]


@pytest.fixture(scope="module")
def pair() -> Iterator[Served]:
    """Give a server of one table, with drafts of two drafters and without any."""
    drafting = decoder_of(letters_target(None), Cascade([PromptLookup(2, 1, 4), Suffix()], "passes"))
    with serving(drafting, compared={"plain": decoder_of(letters_target(None), NoDrafter())}) as served:
        yield served


def test_a_conversation_with_two_models(chromium: Browser, pair: Served) -> None:
    page = opened(chromium, pair)
    page.fill("seed", "3")
    page.fill("temperature", "0")
    page.fill("max-tokens", "40")
    say(page, "abcabdabcabd")
    say(page, "bad cab")
    first, second = answers(pair, "abcabdabcabd", "bad cab", max_tokens=40, temperature=0.0)
    assert page.value(SHOWN) == [first, first, second, second]
    assert page.text("#status").endswith("Both texts are the same.")
    sent = [(body["model"], [message["content"] for message in body["messages"]]) for body in page.bodies()]
    dialogue = ["abcabdabcabd", first, "bad cab"]
    assert sent == [(model, dialogue[:count]) for count in (1, 3) for model in (NAME, "plain")]
    drafted = page.value("[...document.querySelectorAll('.answer')].map(e => e.querySelectorAll('.accepted').length)")
    assert drafted[0] and drafted[2] and drafted[1] == drafted[3] == 0
    assert page.texts(".answer h3") == [NAME, "plain"] * 2
    assert page.complaints() == []
    assert all(address.startswith(pair.url) for address in page.addresses())


def test_figures_and_cycles_are_those_of_the_stream(chromium: Browser, pair: Served) -> None:
    page = opened(chromium, pair)
    page.fill("second-model", "")
    page.fill("max-tokens", "60")
    page.fill("temperature", "0")
    say(page, "abcabdabcabd")
    page.value("document.querySelector('.answer .cycles').open = true")
    page.wait_for("document.querySelectorAll('.answer tbody tr').length")
    rows = page.value(
        "[...document.querySelectorAll('.answer tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    figures = dict(zip(page.texts(".figures dt"), page.texts(".figures dd"), strict=True))
    cycles, drafts, accepted = len(rows) - 1, *(sum(int(row[column] or 0) for row in rows) for column in (2, 3))
    assert figures["tokens"] == "60" == str(accepted + page.count(".answer tbody .own"))
    assert figures["tokens a cycle"] == f"{59 / cycles:.2f}"
    assert figures["of drafts accepted"] == f"{round(100 * accepted / drafts)} %"
    assert {row[1] for row in rows} <= {"prompt_lookup", "suffix", "none"} and drafts
    label = page.value("document.querySelector('.chart').getAttribute('aria-label')")
    assert label.startswith(f"{cycles} cycles: ") and "drafted in" in label
    assert page.count(".chart .bar") == len(rows)


@pytest.mark.parametrize("shown", ["last", "all", "none"])
def test_rejected_drafts_are_shown_as_chosen(chromium: Browser, pair: Served, shown: str) -> None:
    page = opened(chromium, pair)
    page.fill("rejected", shown)
    page.fill("max-tokens", "60")
    page.fill("temperature", "1")
    say(page, "abcabdabcabd")
    assert page.count(".answer > .text s"), "else nothing is shown of it"
    visible = page.value("[...document.querySelectorAll('.answer > .text s')].filter(e => e.offsetWidth).length")
    assert bool(visible) == (shown == "all"), "those of the last cycle go with the answer's end"


def markup() -> Decoder:
    """Return a decoder whose text is `<b>i<b>i`, and so on."""
    letters = "<b>i"
    table = torch.zeros(4, 4, 4, dtype=torch.float64)
    for last in range(4):
        table[:, last, (last + 1) % 4] = 9
    target = TableTarget(table, DynamicCache(), tokenizer=Talking(letters), max_length=None)
    return Decoder.of(target, PromptLookup(2, 1, 4), Coupled(), Stop(40))


def test_no_text_is_taken_for_markup(chromium: Browser) -> None:
    with serving(markup()) as served:
        page = opened(chromium, served)
        say(page, "<b>i<b>i")
        [answer] = page.value(SHOWN)
        assert answer == answers(served, "<b>i<b>i")[0] == "<b>i" * 10
        assert (
            page.value("document.querySelectorAll('#log b, #log .text i, #log .answer > .text > :not(span, s)').length")
            == 0
        )
        assert page.text(".question .text") == "<b>i<b>i"
        assert page.complaints() == []


FORBIDDEN = {
    "markup": "Promise.resolve().then(() => (document.body.innerHTML = '<b>b</b>'))",
    "code": "import('data:text/javascript,')",
    "another host": "fetch('http://127.0.0.1:9/')",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_policy_keeps_out(what: str, chromium: Browser, pair: Served) -> None:
    page = opened(chromium, pair)
    assert page.value(f"{FORBIDDEN[what]}.then(() => 'taken', error => error.name)") == "TypeError"
    assert page.complaints(), "else a page that breaks the policy would not be noticed"


def test_everything_is_reached_by_keyboard_and_has_a_name(chromium: Browser, pair: Served) -> None:
    page = opened(chromium, pair)
    say(page, "abc")
    page.value("document.getElementById('settings').open = true")
    reached = set()
    for _ in range(60):
        page.press("Tab")
        reached.add(page.focused())
    controls = set(page.value("[...document.querySelectorAll('input, select, button, textarea')].map(e => e.id)"))
    assert controls - reached == set()
    assert "SUMMARY" in reached and "log" in reached
    roles = {
        "button",
        "checkbox",
        "combobox",
        "log",
        "region",
        "searchbox",
        "spinbutton",
        "textbox",
        "article",
        "image",
    }
    told = [(role, name) for role, name in page.named() if role in roles]
    assert [role for role, name in told if not name] == []
    assert {"Message", "Send", "Temperature", "Conversation"} <= {name for _, name in told}


def test_escape_stops_an_answer_and_the_next_one_is_taken(chromium: Browser, pair: Served) -> None:
    page = opened(chromium, pair)
    page.fill("second-model", "")
    page.fill("max-tokens", "100000")
    page.type("abcd")
    page.press("Enter")
    page.wait_for("document.querySelectorAll('.answer .own').length > 20")
    page.press("Escape")
    page.wait_for(DONE)
    assert "stopped" in page.text(".answer .now")
    page.fill("max-tokens", "9")
    say(page, "dab")
    assert len(page.value(SHOWN)[1]) == 9
    assert page.focused() == "prompt"


def test_a_key_is_asked_for_and_used(chromium: Browser) -> None:
    with serving(keys=(b"secret",)) as served:
        page = opened(chromium, served)
        assert "a key is needed" in page.text("#status") and page.focused() == "key"
        page.type("secret")
        page.press("Tab")
        page.wait_for("document.querySelector('#first-model option')")
        page.value("document.getElementById('prompt').focus()")
        say(page, "abc")
        assert len(page.value(SHOWN)[0]) == 16
        assert page.value("JSON.stringify([localStorage.length, sessionStorage.length, document.cookie])") == '[0,0,""]'


def test_an_error_is_told_and_the_message_is_not_lost(chromium: Browser, pair: Served) -> None:
    page = opened(chromium, pair)
    page.type("xyz")  # letters that the model does not have
    page.press("Enter")
    page.wait_for("document.querySelector('[role=alert]')")
    page.wait_for(DONE)
    assert "'x'" in page.text("[role=alert]")
    assert page.value("document.getElementById('prompt').value") == "xyz"


def test_a_line_may_be_broken_and_a_chat_begun_anew(chromium: Browser, pair: Served) -> None:
    page = opened(chromium, pair)
    page.type("ab")
    page.press("Enter", shift=True)
    page.type("c")
    assert page.value("document.getElementById('prompt').value") == "ab\nc"
    page.value("document.getElementById('prompt').value = ''")
    say(page, "abc")
    page.value("document.getElementById('clear').click()")
    assert page.count(".answer") == 0 and page.focused() == "prompt"
    say(page, "cab")
    assert len(page.value(SHOWN)) == 2


@pytest.mark.parametrize(("dark", "width"), [(False, 1200), (True, 1200), (False, 360)])
def test_nothing_is_cut_off(chromium: Browser, pair: Served, dark: bool, width: int, tmp_path: Path) -> None:
    page = opened(chromium, pair)
    page.look(dark=dark, width=width, height=800)
    say(page, "abcabdabcabd" * 9)
    say(page, "cab")
    assert page.value("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [width, 800]
    page.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
