"""The watch of a process over the others of its launch: a rank that dies, stops or hangs ends all."""

from __future__ import annotations

import os
import threading
import time

from torch.distributed import Store  # type: ignore[attr-defined]  # documented, not listed

from orthrus.errors import GroupError
from orthrus.ranks.activity import Activity
from orthrus.ranks.ending import BAD_INPUT, Ending
from orthrus.ranks.launch import Launch
from orthrus.ranks.store import open_store

BEAT_SECONDS = 0.5
SILENT_SECONDS = 15.0  # after which a process that says nothing counts as dead or stopped
LINGERING_SECONDS = 4 * BEAT_SECONDS
HANGING_SECONDS = 24.0  # after which a step without a word to other ranks counts as a hang


class Watch:
    """A thread that tells the other ranks that this process lives, and that ends it if one of them does not."""

    def __init__(self, launch: Launch, activity: Activity) -> None:
        self._launch = launch
        self._activity = activity
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="orthrus-watch", daemon=True)
        self._heard = {rank: ("", time.monotonic()) for rank in range(launch.count) if rank != launch.rank}
        self._left: set[int] = set()  # that are through
        self._reached = time.monotonic()  # when the store answered last
        self._keeper: int | None = None  # the process of rank 0, if it keeps the store

    def start(self) -> None:
        """Begin; the store must be kept by then."""
        self._thread.start()
        threading.Thread(target=self._watch_store, name="orthrus-store-watch", daemon=True).start()

    def close(self) -> None:
        """Tell the others that this process is through, and stop watching."""
        self._closing.set()
        self._thread.join(5)

    def _run(self) -> None:
        ending = Ending(self._launch)
        try:
            store = open_store(self._launch, keeps=False)
            ending = Ending(self._launch, store)
            store.set(f"pid/{self._launch.rank}", str(os.getpid()))
            beats, last = 0, time.monotonic()
            while not self._closing.wait(BEAT_SECONDS):
                beats += 1
                store.set(f"beat/{self._launch.rank}", str(beats))
                if time.monotonic() - last > SILENT_SECONDS / 3:  # it was this process that stood still
                    self._heard = {rank: (beat, time.monotonic()) for rank, (beat, _) in self._heard.items()}
                last = time.monotonic()
                ending.follow()
                self._look(store, ending)
                self._reached = time.monotonic()
                if self._keeper is None and not self._launch.agent_store and store.check(["pid/0"]):
                    self._keeper = int(store.get("pid/0"))
            store.set(f"left/{self._launch.rank}", "1")
            self._linger(store)
        except (RuntimeError, GroupError):  # of the store, which goes with the process that keeps it
            time.sleep(BEAT_SECONDS)  # it may have gone with the end of all, which this process is about to come to
            if not self._closing.is_set() and 0 not in self._left:
                ending.fail(f"{self._keeper_name} has ended, which keeps the store of this launch")

    @property
    def _keeper_name(self) -> str:
        return "torchrun" if self._launch.agent_store else "rank 0"

    def _watch_store(self) -> None:
        """End if the store does not answer: with its keeper stopped, nothing else can be known."""
        last = time.monotonic()
        while not self._closing.wait(BEAT_SECONDS):
            now = time.monotonic()
            if now - last > SILENT_SECONDS / 3:  # it was this process that stood still
                self._reached = now
            last = now
            if now - self._reached > SILENT_SECONDS:
                seconds = f"{now - self._reached:.0f} s"
                silent = f"{self._keeper_name} has died or hangs: its process has not answered for {seconds}"
                Ending(self._launch).end_without_store(silent, self._keeper)

    def _linger(self, store: Store) -> None:
        """Keep the store until the others are through, too, or have at least seen that this process is."""
        until = time.monotonic() + LINGERING_SECONDS
        keeps = self._launch.leads and not self._launch.agent_store
        while keeps and time.monotonic() < until:
            if all(store.check([f"left/{rank}"]) for rank in range(self._launch.count)):
                return
            time.sleep(0.05)

    def _look(self, store: Store, ending: Ending) -> None:
        hanging = self._activity.silent_seconds()
        if hanging > HANGING_SECONDS:
            ending.fail(f"rank {self._launch.rank} hangs: it has done nothing in a step for {hanging:.0f} s")
        for rank, (known, since) in list(self._heard.items()):
            self._listen(store, ending, rank, known, since)
        if self._left and self._activity.waited_seconds() > HANGING_SECONDS / 2:
            ending.fail(f"rank {min(self._left)} has ended, and the others wait for it")

    def _listen(self, store: Store, ending: Ending, rank: int, known: str, since: float) -> None:
        if store.check([f"left/{rank}"]):
            self._left.add(rank)
            self._heard.pop(rank)
            return
        beat = store.get(f"beat/{rank}").decode() if store.check([f"beat/{rank}"]) else ""
        if beat != known:
            self._heard[rank] = beat, time.monotonic()
        elif known and time.monotonic() - since > SILENT_SECONDS:
            self._end(ending, rank, time.monotonic() - since)

    def _end(self, ending: Ending, rank: int, seconds: float) -> None:
        ending.speak(f"rank {rank} has died or hangs: its process has not been heard of for {seconds:.0f} s")
        ending.kill(rank)
        ending.end(BAD_INPUT)
