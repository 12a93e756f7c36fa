"""The documentation is true: its examples run, its tables and headings are the code's, its tutorial works."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import docs_checks as checks
import pytest
from docs_following import Workspace, run_python
from docs_pages import ROOT, Page, page, pages
from support.thorough import thorough_but

PAGES = {str(page.path.relative_to(ROOT)): page for page in pages()}
TUTORIAL = "docs/guide/writing-a-drafter.md"
KIT = "docs/guide/testing-a-plugin.md"  # its Python takes 9 s, its commands 30; test_example_package.py has most
# Whose commands take 2 to 6 s: they check whole parts, compare many configs, measure.
SLOW = ["docs/guide/benchmarking.md", "docs/reference/configuration.md", "docs/reference/conformance.md"]
MOST_LINES = 30  # of Python in the tutorial's package, blank ones aside


Check = Callable[[Page], list[str]]


def none_of(complaints: list[str]) -> None:
    assert not complaints, "\n".join(complaints)


def having(language: str, *marks: str) -> list[str]:
    return [name for name, page in PAGES.items() if page.of(language, *marks)]


PYTHON = having("python", "")
YAML = having("yaml", "", "piece")
PARTS = [name for name in PAGES if name.startswith("docs/reference/parts/") and not name.endswith("/watchers.md")]
COMMANDS = [name for name in having("console", "") if name != TUTORIAL]


@pytest.mark.parametrize("name", thorough_but([name for name in PYTHON if name != KIT], PYTHON))
def test_python_runs_and_prints_what_the_page_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    none_of(run_python(PAGES[name], tmp_path))


@pytest.mark.parametrize("name", thorough_but([name for name in YAML if name not in PARTS], YAML))
def test_yaml_is_valid(name: str, tmp_path: Path) -> None:
    none_of(checks.configs(PAGES[name], tmp_path))


@pytest.mark.parametrize(
    "name", thorough_but([name for name in COMMANDS if name not in (KIT, *SLOW, *PARTS)], COMMANDS)
)
def test_commands_print_what_the_page_says(name: str, tmp_path: Path) -> None:
    none_of(Workspace(tmp_path).follow(PAGES[name]))


@pytest.mark.parametrize("name", PAGES)
def test_links_and_named_paths_exist(name: str) -> None:
    none_of(checks.links(PAGES[name]))


@pytest.mark.parametrize("name", PAGES)
def test_quotations_are_in_their_file(name: str) -> None:
    none_of(checks.quotations(PAGES[name]))


def test_hook_headings_are_the_signatures() -> None:
    none_of(checks.hook_headings(page("docs/reference/hooks.md")))


def test_interface_tables_are_the_interfaces() -> None:
    none_of(checks.interface_tables(page("docs/reference/hooks.md")))


def test_tables_of_fields_are_the_values() -> None:
    none_of(checks.field_tables(page("docs/reference/hooks.md")))


def test_tables_of_parts_and_options_are_what_plugins_register() -> None:
    none_of(checks.parts_table(page("docs/reference/configuration.md")))
    none_of(checks.option_tables(page("docs/reference/configuration.md")))


def test_table_of_attention_backends_is_what_they_declare() -> None:
    none_of(checks.attention_table(page("docs/reference/attention.md")))


def test_table_of_accepted_drafts_is_what_was_measured() -> None:
    none_of(checks.acceptance_table(page("docs/reference/sampling.md")))


def test_table_of_attention_speeds_is_what_was_measured() -> None:
    none_of(checks.attention_speeds(page("docs/reference/attention.md")))


def test_table_of_a_views_memory_is_what_was_measured() -> None:
    none_of(checks.view_memory(page("docs/explanation/dual-view.md")))


def test_table_of_a_drafters_trials_is_what_was_measured() -> None:
    none_of(checks.doctor_findings(page("docs/guide/doctor.md")))


def test_table_of_what_training_costs_is_what_was_measured() -> None:
    none_of(checks.training_cost(page("docs/guide/training-a-view.md")))


def test_tables_of_the_kit_are_what_it_publishes() -> None:
    none_of(checks.kit_tables(page("docs/guide/testing-a-plugin.md")))


def test_measures_and_finish_reasons_are_those_of_the_code() -> None:
    none_of(checks.measure_table(page("docs/explanation/decode-loop.md")))
    none_of(checks.finish_reasons(page("docs/explanation/decode-loop.md")))


def test_flags_and_columns_are_those_of_the_commands() -> None:
    for name in ("docs/guide/benchmarking.md", "docs/explanation/lossless.md", "docs/guide/doctor.md"):
        assert page(name).marks("flags") and page(name).marks("columns")
        none_of(checks.flag_tables(page(name)))
        none_of(checks.column_table(page(name)))
    assert page("docs/guide/tracing.md").marks("flags") == ["trace"]
    none_of(checks.flag_tables(page("docs/guide/tracing.md")))


def test_every_page_is_in_the_index() -> None:
    index = page("docs/index.md").text
    assert [
        name
        for name in PAGES
        if re.fullmatch(r"docs/([a-z]+/)*[\w-]+\.md", name) and f"({name.removeprefix('docs/')})" not in index
    ] == ["docs/index.md"]


def test_tutorial_works_as_written(tmp_path: Path) -> None:
    workspace, tutorial = Workspace(tmp_path), PAGES[TUTORIAL]
    none_of(workspace.follow(tutorial))
    texts = [output.splitlines()[0] for command, output in workspace.outputs.items() if " run " in command]
    assert len(texts) == 2
    assert texts[0] == texts[1]
    listed = json.loads(workspace.run("orthrus plugins --json"))["plugins"]
    assert [entry["origin"] for entry in listed if (entry["kind"], entry["name"]) == ("drafter", "echo")] == [
        "orthrus_echo"
    ]
    assert breaks_as_told(tutorial, workspace)
    assert len([block for block in tutorial.blocks if block.mark.startswith("written: ")]) == 3
    changed = planted(TUTORIAL, "return past[newest + 1 :]", "return past[newest:]", tmp_path)
    assert len(workspace.unwritten(changed)) == 1


def breaks_as_told(tutorial: Page, workspace: Workspace) -> bool:
    """Break the installed drafter in the way that the tutorial tells of; say whether the error is the one it shows."""
    [block] = tutorial.of("text", "broken by")
    _, old, new, _ = block.mark.removeprefix("broken by: ").split("/")
    [installed] = workspace.site.glob("orthrus_echo/drafter.py")
    code = installed.read_text(encoding="utf-8")
    assert old in code
    installed.write_text(code.replace(old, new), encoding="utf-8")
    [command] = [output for output in workspace.outputs if output.endswith('"abc"')]
    return workspace.run(command).endswith(block.text)


def test_tutorial_is_short() -> None:
    code = "".join(
        block.text for block in PAGES[TUTORIAL].blocks if block.language == "python" and block.mark != "sketch"
    )
    assert 0 < len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES


# Each check sees a mistake planted on a copy of a page.


def planted(name: str, old: str, new: str, folder: Path) -> Page:
    text = PAGES[name].text
    assert old in text
    copy = Page(folder / PAGES[name].path.name)
    copy.path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("check", "name", "old", "new"),
    [
        (
            checks.hook_headings,
            "docs/reference/hooks.md",
            "### register_caches(register)",
            "### register_caches(registry)",
        ),
        (checks.hook_headings, "docs/reference/hooks.md", "## The interfaces", "### register_engines(register)"),
        (checks.interface_tables, "docs/reference/hooks.md", "| `observe` |", "| `note` |"),
        (checks.interface_tables, "docs/reference/hooks.md", "| `turn` |", "| `lock` |"),
        (
            checks.field_tables,
            "docs/reference/hooks.md",
            "| `passes` | passes of the target's size that prop",
            "| `cost` | prop",
        ),
        (checks.field_tables, "docs/reference/hooks.md", "| `extent` |", "| `width` |"),
        (checks.parts_table, "docs/reference/configuration.md", "| `drafter` | `none` |", "| `drafter` | `nothing` |"),
        (checks.option_tables, "docs/reference/parts/caches.md", "| an integer | `512` |", "| an integer | `256` |"),
        (checks.option_tables, "docs/reference/configuration.md", "<!-- options: stop -->", "<!-- options: end -->"),
        (
            checks.option_tables,
            "docs/reference/configuration.md",
            "| `decay` | a number | `1.0` |",
            "| `decay` | a number | `0.9` |",
        ),
        (
            checks.option_tables,
            "docs/reference/configuration.md",
            "<!-- options: section eval -->",
            "<!-- options: eval -->",
        ),
        (checks.attention_table, "docs/reference/attention.md", "| 8 to 256 by 8 |", "| 8 to 128 by 8 |"),
        (checks.attention_table, "docs/reference/attention.md", "| `flex` |", "| `flax` |"),
        (checks.acceptance_table, "docs/reference/sampling.md", "| 0.25 |", "| 0.35 |"),
        (checks.attention_speeds, "docs/reference/attention.md", "| 4.714 (", "| 4.174 ("),
        (checks.view_memory, "docs/explanation/dual-view.md", "| keys and values |", "| keys |"),
        (checks.doctor_findings, "docs/guide/doctor.md", "| taps one layer higher |", "| taps one layer lower |"),
        (checks.flag_tables, "docs/guide/doctor.md", "| `--limit` |", "| `--most` |"),
        (checks.column_table, "docs/guide/doctor.md", "| `helps` |", "| `better` |"),
        (checks.training_cost, "docs/guide/training-a-view.md", "| row tokens |", "| tokens |"),
        (checks.kit_tables, "docs/guide/testing-a-plugin.md", "`prompts(vocabulary, longest)`", "`prompts(longest)`"),
        (checks.kit_tables, "docs/guide/testing-a-plugin.md", "| 100 |", "| 200 |"),
        (checks.measure_table, "docs/explanation/decode-loop.md", "| `tpf` |", "| `tokens_per_pass` |"),
        (checks.finish_reasons, "docs/explanation/decode-loop.md", "| `stop_token` |", "| `eos` |"),
        (checks.flag_tables, "docs/guide/benchmarking.md", "| `--in-order` |", "| `--ordered` |"),
        (checks.column_table, "docs/guide/benchmarking.md", "| `ratio` |", "| `speed-up` |"),
        (checks.flag_tables, "docs/explanation/lossless.md", "| `--oracle` |", "| `--naive` |"),
        (checks.column_table, "docs/explanation/lossless.md", "| `ties` |", "| `draws` |"),
        (checks.quotations, "docs/explanation/decode-loop.md", "target.keep(step)", "target.crop(step)"),
    ],
)
def test_check_sees_a_planted_mistake(check: Check, name: str, old: str, new: str, tmp_path: Path) -> None:
    assert check(planted(name, old, new, tmp_path))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("docs/index.md", "(explanation/decode-loop.md)", "(explanation/the-loop.md)"),
        ("docs/reference/configuration.md", "(#stop)", "(#stops)"),
        ("docs/explanation/decode-loop.md", "`orthrus/decode.py`", "`orthrus/loop.py`"),
    ],
)
def test_broken_link_is_seen(name: str, old: str, new: str, tmp_path: Path) -> None:
    assert len(checks.links(planted(name, old, new, tmp_path), PAGES[name].path.parent)) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [("identical: True", "identical: False"), ("import orthrus\n\n", "import orthrus\n\northrus.lod()\n")],
)
def test_python_that_does_something_else_is_seen(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert run_python(planted("README.md", old, new, tmp_path), tmp_path)


def test_yaml_with_a_wrong_key_is_seen(tmp_path: Path) -> None:
    assert checks.configs(planted("README.md", "dtype:", "dtyp:", tmp_path), tmp_path)


@pytest.mark.parametrize("end", ["", " | cat"])  # in this process, and in a shell
def test_commands_that_print_something_else_are_seen(end: str, tmp_path: Path) -> None:
    copy = Page(tmp_path / "page.md")
    command = f"$ orthrus validate configs/parts{end}"
    copy.path.write_text(f"```console\n{command}\n…\nconfigs/parts/smollm2.yaml: no\n```\n")
    [complaint] = Workspace(tmp_path / "work").follow(copy)
    assert "smollm2.yaml: ok" in complaint
