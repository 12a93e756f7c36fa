#!/usr/bin/env bash
# One guesses: a loop's `add_reader` watches a file and leaves it as it is, as the selector loop of asyncio does; then a
# `multiprocessing` connection can be read with `recv` whenever the loop says that something has come.
# It is so for asyncio. The loop of uvloop makes the file non-blocking, for good and for both directions. Small messages
# go on as before; `recv` of one that comes in two parts raises BlockingIOError, and so does `send` of one for which the
# pipe has no room. Both are OSErrors, which programs take for the other process's end.
# Where it bites: an event loop that talks to a worker process through a pipe, and only under load or with large messages.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check uvloop==0.23.0
cat > "$folder/try.py" <<'PY'
import asyncio
import os
import sys
from multiprocessing import Pipe

import uvloop

print("python", sys.version.split()[0], "uvloop", uvloop.__version__)


def blocking_after(loop):
    ours, theirs = Pipe()
    loop.add_reader(ours.fileno(), lambda: None)
    loop.remove_reader(ours.fileno())
    return os.get_blocking(ours.fileno()), ours, theirs


seen = {}
for name, loop in {"asyncio": asyncio.SelectorEventLoop(), "uvloop": uvloop.new_event_loop()}.items():
    seen[name], ours, theirs = blocking_after(loop)
    os.write(theirs.fileno(), (1000).to_bytes(4, "big") + b"x" * 10)  # the beginning of a message of 1000 bytes
    said = "waits for the rest"
    if not seen[name]:
        try:
            ours.recv_bytes()
        except OSError as error:
            said = f"raises {type(error).__name__}"
    print(f"{name:8} after add_reader the file blocks: {seen[name]}; recv_bytes of half a message {said}")
    loop.close()
assert seen == {"asyncio": True, "uvloop": False}, seen
assert said == "raises BlockingIOError", said
PY
"$folder/env/bin/python" "$folder/try.py"
