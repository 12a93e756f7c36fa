"""A conversation with the real model in a real browser: what is drafted, and without drafts, beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.browser import browser
from support.program import CONFIGS
from support.served_program import started

pytestmark = [pytest.mark.browser, pytest.mark.model]
RECIPES = CONFIGS / "recipes"
DONE = "document.getElementById('send').textContent === 'Send' && document.querySelector('.answer')"
QUESTIONS = ("Name the seven days of the week, in order.", "Now name them again, and then in reverse.")


def test_two_turns_with_drafts_and_without(tmp_path: Path) -> None:
    compared = str(RECIPES / "smollm2-plain.yaml")
    limit = "stop.max_new_tokens=48"
    with (
        started(RECIPES / "smollm2-cascade.yaml", "--compare", compared, limit) as program,
        browser(tmp_path) as page,
    ):
        page.look()
        page.open(program.url)
        page.wait_for("document.querySelectorAll('#first-model option').length === 2")
        for question in QUESTIONS:
            page.type(question)
            page.press("Enter")
            page.wait_for(DONE)
            assert page.text("#status").endswith("Both texts are the same.")
        assert page.texts(".question .text") == list(QUESTIONS)
        speeds = [float(text) for text in page.texts(".figures div:first-child dd")]
        assert len(speeds) == 4 and min(speeds[::2]) > 1 and speeds[1::2] == [1, 1]
        assert page.count(".answer .accepted") and page.complaints() == []
