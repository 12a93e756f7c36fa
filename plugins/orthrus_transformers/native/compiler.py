"""C++ compiler: builds the native kernels at first use, into the user's cache directory.

A library is kept under a name that its source, its flags, the compiler and the CPU decide, so that none is loaded that
was built for another machine or from another version of the source.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from orthrus import BuildError
from orthrus.files import WriteError, cache_directory, write_whole

SOURCE = Path(__file__).parent / "source"
FOLDER = "native"  # of the user's cache
COMPILERS = ("c++", "g++", "clang++")  # tried in this order, unless the environment names one in CXX
FLAGS = ("-std=c++20", "-O3", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
SECONDS = 300.0  # that a build may take
X86, ARM = ("x86_64", "AMD64"), ("aarch64", "arm64")
NEEDED = {"avx2", "fma", "f16c"}  # of an x86 CPU; on an older one torch's kernels are as good


def usable_compiler() -> Path:
    """Return the C++ compiler; raise BuildError, which says what is missing, if there is none or the CPU is too old."""
    check_cpu()
    return find_compiler()


def built_library(compiler: Path, key: str, notify: Callable[[str], None]) -> Path:
    """Return the shared library of this key, building it if it is not kept yet.

    notify: told before a build, which takes some seconds. Raises BuildError if it fails or cannot be kept.
    """
    library = cache_directory(FOLDER) / f"orthrus-native-{key}.so"
    if not library.is_file():
        notify(f"compiling the native CPU kernels with {compiler.name} (once)")
        _build(compiler, library)
    return library


def check_cpu() -> None:
    """Raise BuildError for a CPU that the kernels are not written for."""
    machine = platform.machine()
    if machine in ARM:
        return
    missing = NEEDED - cpu_flags() if machine in X86 else {"x86 or ARM"}
    if missing:
        raise BuildError(f"needs a CPU with {', '.join(sorted(missing)).upper()}, which this one ({machine}) lacks")


def find_compiler() -> Path:
    """Return the C++ compiler; raise BuildError if there is none."""
    named = os.environ.get("CXX")
    for name in (named,) if named else COMPILERS:
        found = shutil.which(name)
        if found:
            return Path(found)
    looked = f"CXX={named}" if named else ", ".join(COMPILERS)
    raise BuildError(f"needs a C++ compiler, and none is found ({looked}); install g++ or clang++, or name one in CXX")


def _build(compiler: Path, library: Path) -> None:
    try:
        write_whole(library, lambda beside: compile_library(compiler, beside))
    except WriteError as error:
        raise BuildError(
            f"cannot keep its kernels in '{library.parent}' ({error.why}); set ORTHRUS_CACHE to a folder with room"
        ) from error


def compile_library(compiler: Path, output: Path) -> None:
    """Compile the source into a shared library; raise BuildError with what the compiler says if it fails."""
    native = "-mcpu=native" if platform.machine() in ARM else "-march=native"
    command = [str(compiler), *FLAGS, native, str(SOURCE / "library.cpp"), "-o", str(output)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"cannot be compiled: {compiler} does not run through ({error})") from error
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
        raise BuildError(f"cannot be compiled by {compiler}: {said[:300]}")


def library_key(compiler: Path) -> str:
    """Return what tells a library from those of other sources, flags, compilers and CPUs."""
    digest = hashlib.sha256()
    for file in sorted(SOURCE.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    real = compiler.resolve()
    status = real.stat()  # another version of a compiler is another file
    facts = (FLAGS, str(real), status.st_size, status.st_mtime_ns, platform.machine(), sorted(cpu_flags()))
    digest.update(repr(facts).encode())
    return digest.hexdigest()[:24]


@cache
def cpu_flags() -> frozenset[str]:
    """Return what the CPU can, in the system's words; of a system that does not say, what torch finds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return _flags_by_torch()
    named = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(named, "").split())


def _flags_by_torch() -> frozenset[str]:
    import torch

    modern = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return frozenset(NEEDED) if modern else frozenset()
