"""Candidates of a prediction: the drafters that are asked about, each with the blocks that it can draft."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orthrus.bench.arguments import read_integers
from orthrus.config.compose import ConfigSource, compose, read_layers
from orthrus.config.schema import Config, load_config
from orthrus.errors import ConfigError, InputError, Problem
from orthrus.files import path_exists, short_path
from orthrus.options import mismatch
from orthrus.registry.catalog import PARTS, PLAIN
from orthrus.registry.plugins import Plugins

Block = int | Literal["auto"] | None  # anchor and drafts of a cycle; None: as many as the drafter drafts by itself
AUTO: Literal["auto"] = "auto"
SIZES = {"block": 0, "length": 1}  # options that say how much is drafted, and how much less than a block they count
NO_DRAFTS = ConfigSource("the reference", {"drafter": {"name": PLAIN}})


@dataclass(frozen=True)
class Candidate:
    """One drafter at one block size, and the config of its decoder.

    option: that which says how much it drafts; None if it has none.
    """

    drafter: str
    block: Block
    config: Config
    option: str | None = None


def read_blocks(text: str) -> tuple[Block, ...]:
    """Return the sizes of a list such as `4,8,auto`; raise InputError for anything else, or a block without drafts."""
    items = [item.strip() for item in text.split(",")]
    numbers = [item for item in items if item != AUTO]
    sizes: list[Block] = list(read_integers("--blocks", ",".join(numbers))) if numbers else []
    if 1 in sizes:
        raise InputError("--blocks counts the anchor, too: a block has 2 tokens or more")
    return tuple(sizes) + ((AUTO,) if AUTO in items else ())


def plan_candidates(
    config: Path,
    overrides: ConfigSource,
    drafters: str | None,
    blocks: Sequence[Block],
    plugins: Plugins,
) -> tuple[Candidate, ...]:
    """Return plain decoding, which the others are compared with, then every drafter at every block.

    drafters: names, whose options are the config's own where it names the same, and files whose drafter is meant;
    None: the config's own. blocks: none for what each drafter does by itself. Raises ConfigError with all problems.
    """
    plain = load_config(config, [overrides, NO_DRAFTS], plugins)
    own = load_config(config, [overrides], plugins)
    assert own.drafter is not None
    asked = [own.drafter.entry.name] if drafters is None else [text.strip() for text in drafters.split(",")]
    labels = [_label(text) for text in asked]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"--drafters: two are called '{label}'; labels must differ")
    candidates = [Candidate(PLAIN, None, plain)]
    problems: dict[Problem, None] = {}
    for label, text in zip(labels, asked, strict=True):
        try:
            layers = [overrides, *_layers(text)]
            if label != PLAIN:
                sized = list(_sized(label, config, layers, blocks, plugins))
                if not sized:
                    raise InputError(f"--blocks auto: drafter '{label}' has no 'auto'; give numbers, or leave it out")
                candidates += sized
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(list(problems))
    return tuple(candidates)


def _is_file(text: str) -> bool:
    return "/" in text or text.endswith((".yaml", ".yml"))


def _label(text: str) -> str:
    return Path(text).stem if _is_file(text) else text


def _layers(text: str) -> list[ConfigSource]:
    """Return what puts a drafter into a config: by its name, or all of the one that a file composes."""
    if not _is_file(text):
        return [ConfigSource("--drafters", {"drafter": {"name": text}})]
    if not path_exists(text):
        raise InputError(f"--drafters: there is no config file '{short_path(text)}'")
    layers, problems = read_layers(Path(text))
    if problems:
        raise ConfigError(problems)
    drafter = compose(layers, PARTS).values.get("drafter")
    if drafter is None:
        raise InputError(f"--drafters: '{short_path(text)}' names no drafter")
    return [NO_DRAFTS, ConfigSource(text, {"drafter": drafter})]  # nothing is left of the config's own drafter


def _sized(
    label: str, path: Path, layers: Sequence[ConfigSource], blocks: Sequence[Block], plugins: Plugins
) -> Iterator[Candidate]:
    config = load_config(path, layers, plugins)
    assert config.drafter is not None
    options = config.drafter.options
    option = next((name for name in SIZES if hasattr(options, name)), None)
    if option is None or not blocks:
        yield Candidate(label, None if option is None else _block(options, option), config, option)
        return
    for block in blocks:
        if block == AUTO and not _takes_auto(options, option):
            continue  # it has no such choice
        size = block if block == AUTO or block is None else block - SIZES[option]
        layer = ConfigSource("--blocks", {"drafter": {option: size}})
        yield Candidate(label, block, load_config(path, [*layers, layer], plugins), option)


def _block(options: Any, option: str) -> Block:
    """Return the block that a drafter's own options ask for."""
    size = getattr(options, option)
    return size + SIZES[option] if isinstance(size, int) else AUTO if size == AUTO else None


def _takes_auto(options: Any, option: str) -> bool:
    assert dataclasses.is_dataclass(options)
    return mismatch(AUTO, typing.get_type_hints(type(options))[option]) is None
