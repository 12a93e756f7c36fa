"""The common end of all ranks: one of them says why in one sentence, and all exit with the same code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import NoReturn, TextIO

from torch.distributed import Store  # type: ignore[attr-defined]  # documented, not listed

from orthrus.errors import GroupError
from orthrus.ranks.launch import Launch
from orthrus.ranks.store import open_store
from orthrus.terminal import echo

BAD_INPUT = 2
SPOKEN, FAILED, ENDED = "spoken", "failed", "ended"
PATIENCE_SECONDS = 8.0  # for the other ranks to end by themselves
STOPPED = "ended by SIGTERM, which torchrun sends to all processes when one of them has ended"


class Ending:
    """Ends all ranks of a launch; `stderr`: where the one that speaks does so."""

    def __init__(self, launch: Launch, store: Store | None = None, stderr: TextIO | None = None) -> None:
        """End through a store; None: it is opened when it is needed. stderr None: the process's own."""
        self._launch = launch
        self._store = store
        self._stderr = stderr or sys.__stderr__

    def speak(self, sentence: str, before: str = "") -> None:
        """Say a sentence, unless another rank has said one already; before: what only this process can add to it."""
        if self._first():
            lines = "".join(f"orthrus: error: {line}\n" for line in sentence.splitlines() or ["unknown"])
            echo(before + lines, to=self._stderr, end="")

    def fail(self, sentence: str, before: str = "") -> NoReturn:
        """Say why, and end all ranks as bad input does."""
        self.speak(sentence, before)
        self.end(BAD_INPUT)

    def end(self, code: int) -> NoReturn:
        """Let all other ranks end with a code, wait until they have, and exit with it; nobody speaks any more."""
        with contextlib.suppress(RuntimeError, GroupError):  # nobody keeps the store any more: the others see that
            store = self._opened()
            store.add(SPOKEN, 1)
            store.set(FAILED, str(code))
            self._note_end(store)
            self._wait_for_others(store)
        _exit(code)

    def end_without_store(self, sentence: str, keeper: int | None) -> NoReturn:
        """Exit as the store does not answer; the first of those that are left speaks. keeper: a process to end."""
        if self._launch.rank == 1:
            echo(f"orthrus: error: {sentence}", err=True, to=self._stderr)
        if keeper is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(keeper, signal.SIGKILL)
        _exit(BAD_INPUT)

    def follow(self) -> None:
        """Exit if another rank has said why, with its code."""
        store = self._opened()
        if store.check([FAILED]):
            code = int(store.get(FAILED))
            with contextlib.suppress(RuntimeError):
                self._note_end(store)
                if self._keeps_store:  # it would go with this process, before others have read that they are to end
                    self._wait_for_others(store)
            _exit(code)

    def kill(self, rank: int) -> None:
        """End a process of this host that does not do so by itself."""
        with contextlib.suppress(RuntimeError, GroupError, ProcessLookupError):
            os.kill(int(self._opened().get(f"pid/{rank}")), signal.SIGKILL)

    def end_on_sigterm(self) -> None:
        """Exit as bad input does when SIGTERM comes, whatever the main thread waits for; it must be called there."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.signal(signal.SIGTERM, lambda *_: None)  # so that it is written to the pipe, and kills nobody
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

        def listen() -> None:
            while byte := os.read(reader, 1):
                if byte[0] == signal.SIGTERM:
                    self.speak(STOPPED)
                    _exit(BAD_INPUT)

        threading.Thread(target=listen, name="orthrus-sigterm", daemon=True).start()

    @property
    def _keeps_store(self) -> bool:
        return self._launch.leads and not self._launch.agent_store

    def _wait_for_others(self, store: Store) -> None:
        """Return when all ranks have noted that they end, or have had the time to."""
        since = time.monotonic()
        every = [f"{ENDED}/{rank}" for rank in range(self._launch.count)]
        while not store.check(every) and time.monotonic() - since < PATIENCE_SECONDS:
            time.sleep(0.05)
        if self._keeps_store:
            time.sleep(0.2)  # the others still read the answer of the store that this process keeps

    def _note_end(self, store: Store) -> None:
        store.set(f"{ENDED}/{self._launch.rank}", "1")

    def _opened(self) -> Store:
        if self._store is None:
            self._store = open_store(self._launch)
        return self._store

    def _first(self) -> bool:
        try:
            return bool(self._opened().add(SPOKEN, 1) == 1)
        except (RuntimeError, GroupError):  # the store went with rank 0
            return self._launch.rank <= 1


def _exit(code: int) -> NoReturn:
    """Exit at once: other threads, and what waits for other ranks, are not waited for."""
    try:
        if threading.current_thread() is threading.main_thread():  # else it may wait for whom the main thread waits for
            sys.stdout.flush()
    finally:
        os._exit(code)
