"""Hold pages against the code. Every check returns its complaints; none means that the page is right."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import runpy
import shutil
import textwrap
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args

import typer
from docs_pages import ROOT, Page
from support.view_memory import program as view_memory_program

from orthrus import (
    InputError,
    Result,
    Sampling,
    Stop,
    choices,
    hookspecs,
    interfaces,
    one_pass,
    optional,
    rounding,
    state_marks,
    trees,
    values,
    watched,
)
from orthrus.cli import doctor_table, predict_table, verify_table
from orthrus.cli.app import make_app
from orthrus.cli.bench_table import COLUMNS
from orthrus.config.schema import PARTS, load_config
from orthrus.errors import ConfigError
from orthrus.kernels.skinny_linear import ProjectsAttention
from orthrus.metrics import Measures
from orthrus.options import describe
from orthrus.registry.contracts import members
from orthrus.registry.plugins import GROUP, Plugins
from orthrus.settings import WarmUp
from orthrus.testing import strategies
from orthrus.testing.profiles import PROFILES
from orthrus.values import FinishReason

PARTS_PAGES = [Page(path) for path in sorted((ROOT / "docs" / "reference" / "parts").glob("*.md"))]
SECTIONS = {"stop": Stop, "sampling": Sampling, "warm_up": WarmUp}
PROTOCOLS = ("AttentionBackend", "Baseline", "Drafter", "KVCache", "Source", "Target", "Tokenizer", "Verifier")
FIELDS = (
    *(values.Draft, values.Verdict, values.Step, values.MaskDescription, values.AttentionCapabilities),
    *(one_pass.AcceptableBlocks, one_pass.BlockPredictions, one_pass.OnePassCycle),
)
ONE_PASS_ABILITIES = ("AttendsBeside", "DraftsWhileScoring", "JoinsBlocks", "ScoresWithBlocks")
TREE_ABILITIES = ("DraftsTrees", "VerifiesTrees", "ScoresTrees", "MovesSlots")
ABILITIES = (
    "BoundsRows",
    "FreesRows",
    "MovesRows",
    "OffersTrials",
    "PrefillsInChunks",
    "ReadsLikeliest",
    "ReadsTaps",
    "RestoresPrefixes",
    "SharesPrefixes",
    "TakesTurns",
    "TappedTarget",
    "TracksRows",
)


def differing(what: str, told: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return a complaint for each name that only one side has."""
    told, wanted = list(told), list(wanted)
    missing = [f"{what} '{name}' is not in the page" for name in wanted if name not in told]
    return missing + [f"{what} '{name}' is in the page, but does not exist" for name in told if name not in wanted]


def hook_headings(page: Page) -> list[str]:
    """Compare the headings that look like a signature with the signatures of all hooks."""
    hooks = [hook for hook in vars(hookspecs).values() if hasattr(hook, "orthrus_spec")]
    wanted = [f"{hook.__name__}({', '.join(inspect.signature(hook).parameters)})" for hook in hooks]
    return differing("hook", [heading for heading in page.headings if "(" in heading], wanted)


def names(page: Page, mark: str, wanted: Iterable[str]) -> list[str]:
    """Compare the first column of a marked table with the names that exist."""
    return differing(mark, [name.strip("`") for row in page.table(mark) for name in row[0].split("`, `")], wanted)


def interface_tables(page: Page) -> list[str]:
    """Compare the table of each interface, and of each ability that has one, with its members."""
    protocols = {name: getattr(interfaces, name) for name in PROTOCOLS}
    protocols |= {name: getattr(optional, name) for name in ABILITIES}
    protocols |= {name: getattr(trees, name) for name in TREE_ABILITIES}
    protocols |= {name: getattr(one_pass, name) for name in ONE_PASS_ABILITIES}
    protocols |= {"ScoresChoices": choices.ScoresChoices, "VerifiesChoices": choices.VerifiesChoices}
    protocols["ProjectsAttention"] = ProjectsAttention
    protocols |= {"RoundsStates": rounding.RoundsStates, "MarksStates": state_marks.MarksStates}
    protocols |= {"HasStateDtype": rounding.HasStateDtype}
    return [
        complaint
        for name, protocol in protocols.items()
        for complaint in names(page, f"members: {name}", members(protocol))
    ]


def field_tables(page: Page) -> list[str]:
    """Compare the tables of fields with those of the values that go between the parts."""
    return [
        complaint
        for value in (*FIELDS, *vars(watched).values())
        if dataclasses.is_dataclass(value) and isinstance(value, type)
        for complaint in names(page, f"fields: {value.__name__}", [field.name for field in dataclasses.fields(value)])
    ]


def kit_tables(page: Page) -> list[str]:
    """Compare the strategies with their parameters, and the profiles, with those published."""
    drawn = [
        strategy for strategy in vars(strategies).values() if getattr(strategy, "__module__", "") == strategies.__name__
    ]
    signatures = [f"{strategy.__name__}({', '.join(inspect.signature(strategy).parameters)})" for strategy in drawn]
    told = [[row[0].strip("`"), row[1]] for row in page.table("profiles")]
    wanted = [[name, str(profile.max_examples)] for name, profile in PROFILES.items()]
    return [
        *names(page, "strategies", signatures),
        *differing("profile", map(str, told), map(str, wanted)),
    ]


def measure_table(page: Page) -> list[str]:
    """Compare the table of results with what `orthrus run --json` prints."""
    result = Result("0", "", (), (), "length", Measures(0, 0, 0, (), 0.0, None))
    return names(page, "result", result.to_dict())


def finish_reasons(page: Page) -> list[str]:
    """Compare the table of finish reasons with those that exist."""
    return names(page, "finish reasons", get_args(FinishReason))


def attention_table(page: Page) -> list[str]:
    """Compare the table of attention backends with what they declare, and its names with those registered."""
    written = page.text.partition("<!-- attention capabilities -->\n")[2].partition("\n\n")[0].splitlines()
    generated = runpy.run_path(str(ROOT / "docs" / "tools" / "attention_table.py"))["table"]()
    listed = [row[0].strip("`") for row in page.table("attention capabilities")]
    registered = [entry.name for entry in _built_in() if entry.kind == "attention"]
    return differing("line", written, generated) + differing("attention", listed, registered)


def attention_speeds(page: Page) -> list[str]:
    """Compare the table of attention speeds with what the program that measured them makes of its results."""
    written = page.text.partition("<!-- attention speeds -->\n")[2].partition("<!-- end -->\n")[0].splitlines()
    program = runpy.run_path(str(ROOT / "docs" / "tools" / "attention_speeds.py"))
    return differing("line", written, program["page_lines"](json.loads(program["FOUND"].read_text(encoding="utf-8"))))


def view_memory(page: Page) -> list[str]:
    """Compare the table of a view's memory with what the program that measured it makes of its results."""
    written = page.text.partition("<!-- view memory -->\n")[2].partition("<!-- end -->\n")[0].splitlines()
    program = view_memory_program()
    return differing("line", written, program.page_lines(program.read(program.FOUND)))


def acceptance_table(page: Page) -> list[str]:
    """Compare the table of accepted drafts with what the program that measured them makes of its results."""
    written = page.text.partition("<!-- acceptance -->\n")[2].partition("<!-- end -->\n")[0].splitlines()
    program = runpy.run_path(str(ROOT / "docs" / "tools" / "acceptance.py"))
    return differing("line", written, program["page_lines"](json.loads(program["FOUND"].read_text(encoding="utf-8"))))


def doctor_findings(page: Page) -> list[str]:
    """Compare the table of a drafter's trials with what the program makes of what the command found."""
    written = page.text.partition("<!-- doctor -->\n")[2].partition("<!-- end -->\n")[0].splitlines()
    program = runpy.run_path(str(ROOT / "docs" / "tools" / "doctor_table.py"))
    return differing("line", written, program["page_lines"](json.loads(program["FOUND"].read_text(encoding="utf-8"))))


def training_cost(page: Page) -> list[str]:
    """Compare the table of what trainings cost with what the program makes of their records."""
    written = page.text.partition("<!-- training cost -->\n")[2].partition("<!-- end -->\n")[0].splitlines()
    program = runpy.run_path(str(ROOT / "docs" / "tools" / "training_log.py"))
    return differing("line", written, program["cost_lines"](program["FOLDER"]))


def parts_table(page: Page) -> list[str]:
    """Compare the table of built-in parts, `kind name`, with what the distribution's plugins register."""
    told = [f"{kind.strip('`')} {name.strip('`')}" for kind, name, *_ in page.table("parts")]
    return differing("part", told, [f"{entry.kind} {entry.name}" for entry in _built_in()])


def option_tables(page: Page) -> list[str]:
    """Compare the tables of options, on this page and on those of parts, with those that the code describes."""
    schemas: dict[str, Any] = {f"{entry.kind} {entry.name}": _schema(entry) for entry in _built_in()} | SECTIONS
    wanted = {name: schema for name, schema in schemas.items() if list(describe(schema))}
    others = [other for other in PARTS_PAGES if other.path.name != page.path.name]
    tables = {name: each.table(f"options: {name}") for each in (page, *others) for name in each.marks("options")}
    complaints = differing("options", [name for each in (page, *others) for name in each.marks("options")], wanted)
    for name, schema in wanted.items():
        rows = [" | ".join(row) for row in tables.get(name, [])]
        complaints += differing(f"{name} option", rows, [option_row(described) for described in describe(schema)])
    return complaints


def _schema(entry: Any) -> Any:
    """Return the dataclass of a part's options; a section's is the section itself."""
    return entry.load_factory() if entry.kind == "section" else entry.load_options()


def option_row(option: dict[str, Any]) -> str:
    """Return an option's row as the tables write it."""
    default = "required" if option["required"] else f"`{json.dumps(option['default'])}`"
    return f"`{option['name']}` | {option['type']} | {default} | {option['help']}"


def flag_tables(page: Page) -> list[str]:
    """Compare each table of a command's flags with those that the program takes."""
    program = typer.main.get_command(make_app())
    return [
        complaint
        for name in page.marks("flags")
        for complaint in names(page, f"flags: {name}", _flags(_command(program, name)))
    ]


def _command(program: Any, name: str) -> Any:
    """Return a command by its words: those of a group have two."""
    for word in name.split():
        program = program.commands[word]
    return program


def _flags(command: Any) -> list[str]:
    return [option.opts[0] for option in command.params if option.param_type_name == "option" and option.name != "help"]


def column_table(page: Page) -> list[str]:
    """Compare each table of columns with those that the command prints."""
    printed = {
        "bench": COLUMNS,
        "verify": verify_table.COLUMNS,
        "predict": predict_table.COLUMNS,
        "doctor": doctor_table.COLUMNS,
    }
    return [complaint for name in page.marks("columns") for complaint in names(page, f"columns: {name}", printed[name])]


def configs(page: Page, folder: Path) -> list[str]:
    """Validate every YAML block as if it lay in configs/recipes: a `piece` need not name every part."""
    recipes = folder / "configs" / "recipes"
    if not recipes.exists():
        shutil.copytree(ROOT / "configs", folder / "configs")
    complaints = []
    for block in page.of("yaml", "", "piece"):
        file = recipes / "block.yaml"
        file.write_text(block.text, encoding="utf-8")
        try:
            load_config(file, [], Plugins.load(strict=True), missing_ok=PARTS if block.mark == "piece" else ())
        except (ConfigError, InputError) as error:
            complaints.append(f"{page.path.name}, line {block.line}: {error}")
    return complaints


def quotations(page: Page) -> list[str]:
    """Find each block marked `from: FILE` in that file, whatever its indentation there."""
    complaints = []
    for block in [block for block in page.blocks if block.mark.startswith("from: ")]:
        source = (ROOT / block.mark.removeprefix("from: ")).read_text(encoding="utf-8")
        if not any(textwrap.indent(block.text, " " * depth) in source for depth in (0, 4, 8)):
            complaints.append(f"{page.path.name}, line {block.line}: is not in {block.mark.removeprefix('from: ')}")
    return complaints


def links(page: Page, folder: Path | None = None) -> list[str]:
    """Resolve every link, and every path in backticks, of the repository or beside the page; folder: where it lies."""
    complaints = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.prose):
        if not re.match(r"[a-z]+:", target) and not _resolves(page, target, folder or page.path.parent):
            complaints.append(f"{page.path.name}: the link '{target}' leads nowhere")
    for named in re.findall(r"`((?:orthrus|plugins|configs|tests|docs)/[\w./-]*)`", page.prose):
        if not (ROOT / named).exists() and not ((folder or page.path.parent) / named).exists():
            complaints.append(f"{page.path.name}: there is no '{named}'")
    return complaints


def _resolves(page: Page, target: str, folder: Path) -> bool:
    path, _, anchor = target.partition("#")
    file = folder / path if path else page.path
    if not file.exists() or not anchor:
        return file.exists()
    return anchor in [_slug(heading) for heading in Page(file).headings]


def _slug(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def _built_in() -> list[Any]:
    points = [point for point in entry_points(group=GROUP) if point.dist and point.dist.name == "orthrus-decoding"]
    return [entry for entry in Plugins.load().catalog if entry.origin in {point.name for point in points}]
