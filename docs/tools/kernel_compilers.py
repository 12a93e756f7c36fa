"""Processes that compile a program's kernels beside one another, for the program itself to find them on the disk."""

from __future__ import annotations

import subprocess
import sys
import time

import torch

from orthrus.terminal import echo


def compile_first(program: str, out: str, processes: int) -> None:
    """Run a program once for each of its shares, `--share N`, and wait; what a share leaves out is compiled later."""
    began = time.monotonic()
    command = [sys.executable, program, "--out", out, "--share"]
    compilers = [subprocess.Popen([*command, str(share)]) for share in range(processes)]
    codes = [compiler.wait() for compiler in compilers]
    if any(codes):
        echo("some could not compile; what is missing is compiled as it comes")
    echo(f"compiled after {time.monotonic() - began:.0f} s; {torch.cuda.get_device_name()}, torch {torch.__version__}")
