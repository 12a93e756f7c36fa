"""Drafters of each format, trained in less than a minute: what is right wins tokens, what is wrong loses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.published import edit
from support.thorough import nightly_but
from support.trained_drafters import Format, tokens_per_cycle, train

# In the config, and in the options.
MISTAKES: dict[Format, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "dflash": [
        ({}, {"layer_ids": "boundaries"}),
        ({"dflash_config__mask_token_id": 5}, {}),
        ({"rope_theta": 100.0}, {}),
    ],
    "eagle3": [
        ({}, {"layer_ids": "outputs"}),
        ({}, {"norm_before_residual": False}),
    ],
}


@pytest.mark.parametrize("kind", nightly_but([], ["dflash", "eagle3"]))
def test_a_minute_of_training(kind: Format, tmp_path: Path) -> None:
    """Three tokens a cycle on texts that were not trained on; each mistake costs more than a fifth of them."""
    directory = train(kind, tmp_path / "drafter")
    right, before = tokens_per_cycle(kind, directory), (directory / "config.json").read_text(encoding="utf-8")
    assert right >= 3
    for changes, options in MISTAKES[kind]:
        assert tokens_per_cycle(kind, edit(directory, **changes), **options) < 0.8 * right, (changes, options)
        (directory / "config.json").write_text(before, encoding="utf-8")
