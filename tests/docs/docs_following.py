"""Does what a page says: runs its Python, writes its files, types its commands, and compares what comes out."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from docs_pages import ROOT, Block, Page
from support.program import called

EXAMPLE = ROOT / "docs" / "examples" / "orthrus-repeat-drafter"
BIN = str(Path(sys.executable).parent)
FOR_A_SHELL = frozenset("|&;<>$`*?~#\\")


def run_python(page: Page, folder: Path) -> list[str]:
    """Run a page's Python as one program and compare what it prints with the page's `output` blocks.

    The program is the page with everything else blanked out, so that tracebacks tell the page's lines.
    """
    lines: list[str] = []
    for block in page.of("python", ""):
        lines += [""] * (block.line - len(lines)) + block.text.splitlines()
    program = folder / f"{page.path.stem}.py"
    program.write_text("\n".join(lines), encoding="utf-8")
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(program), run_name="page")
    except Exception as error:  # whatever a page raises is its fault
        return [f"{page.path.name}: {type(error).__name__}: {error}"]
    return compare(page, "its Python", "".join(block.text for block in page.of("text", "output")), printed.getvalue())


@dataclass
class Workspace:
    """A folder where a page's files are written and its commands are run, with configs, data and the example in it."""

    folder: Path
    outputs: dict[str, str] = field(default_factory=dict)  # of each command that was run

    def __post_init__(self) -> None:
        shutil.copytree(ROOT / "configs", self.folder / "configs")
        shutil.copytree(ROOT / "tests" / "data", self.folder / "tests" / "data")
        shutil.copytree(EXAMPLE, self.folder / EXAMPLE.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        self.site = self.folder / "site"

    def follow(self, page: Page) -> list[str]:
        """Write the files, run the commands, and return what differs from the page."""
        for block in [block for block in page.blocks if block.mark.startswith("file: ")]:
            file = self.folder / block.mark.removeprefix("file: ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        told = [
            complaint
            for block in page.of("console", "")
            for command in commands(block)
            for complaint in self._do(page, *command)
        ]
        return told + self.unwritten(page)

    def unwritten(self, page: Page) -> list[str]:
        """Complain of each block that stands in no file which the page's commands wrote, though it is said to."""
        written = {block: self.folder / block.mark.removeprefix("written: ") for block in page.blocks}
        return [
            f"{page.path.name}, line {block.line}: is not in {file.relative_to(self.folder)}"
            for block, file in written.items()
            if block.mark.startswith("written: ")
            and not (file.is_file() and block.text in file.read_text(encoding="utf-8"))
        ]

    def _do(self, page: Page, command: str, expected: str) -> list[str]:
        self.outputs[command] = self.run(self._here(command))
        return compare(page, command, expected, self.outputs[command])

    def run(self, command: str) -> str:
        """Run a command line; return its output, errors last."""
        variables = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.site), os.environ.get("PYTHONPATH")])),
            "COLUMNS": "200",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        if command.startswith("orthrus ") and not set(command) & FOR_A_SHELL:
            with mock.patch.dict(os.environ, variables):
                return self._in_this_process(shlex.split(command))
        done = subprocess.run(
            command, check=False, shell=True, cwd=self.folder, env=variables, capture_output=True, text=True
        )
        return done.stdout + done.stderr

    def _in_this_process(self, words: list[str]) -> str:
        """Run the program `orthrus` in the folder, without starting Python and torch anew.

        That it starts by itself is tested in tests/cli/test_bad_input.py and test_interrupts.py.
        """
        out, err = io.StringIO(), io.StringIO()
        path = [*sys.path[:1], str(self.site), *sys.path[1:]]  # behind the program's own folder, as PYTHONPATH is
        with contextlib.ExitStack() as stack:
            stack.callback(self._forget_modules)
            stack.enter_context(contextlib.chdir(self.folder))
            stack.enter_context(mock.patch.object(sys, "path", path))
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            importlib.invalidate_caches()
            called(*words)
        return out.getvalue() + err.getvalue()

    def _forget_modules(self) -> None:
        """Let what was imported from the folder be imported anew: another page may have a module of the same name."""
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and Path(file).is_relative_to(self.folder):
                del sys.modules[name]

    def _here(self, command: str) -> str:
        # The page installs into the reader's environment; the test must not, and has no network.
        offline = f"python -m pip install --quiet --no-build-isolation --no-deps --upgrade --target {self.site}"
        return command.replace("pip install", offline) if command.startswith("pip install ") else command


def commands(block: Block) -> list[tuple[str, str]]:
    """Return each command of a console block with the output shown after it."""
    parts = re.split(r"^\$ (.+)\n", block.text, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def compare(page: Page, what: str, expected: str, printed: str) -> list[str]:
    """Complain if the output is another; an ellipsis stands for anything in a line, or alone for any lines.

    Blank lines and spaces at the ends of lines do not count.
    """
    printed = "".join(f"{line.rstrip()}\n" for line in printed.splitlines() if line.strip())
    pattern = "".join(
        "(?:.*\n)*?" if line == "…" else re.escape(line.rstrip()).replace("…", ".*") + "\n"
        for line in expected.splitlines()
        if line.strip()
    )
    if re.fullmatch(pattern, printed):
        return []
    return [f"{page.path.name}: {what} should print\n{expected}but prints\n{printed}"]
