"""Settings of a server, as the command line gives them; imports nothing of the extra `serve`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orthrus import InputError

LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class ServerSettings:
    """What is served, where, to whom and how much at a time.

    batch: answers that are decoded at a time. queue: answers that wait for a row. model: the name that clients write.
    most_bytes: of a request's body. compared: configs of further models, which have the names of their files. page:
    whether there is a page to chat.
    """

    config: Path
    overrides: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[bytes, ...] = ()
    batch: int = 64
    queue: int = 256
    model: str = ""
    most_bytes: int = 4 * 2**20
    vllm_metrics: bool = False
    compared: tuple[Path, ...] = ()
    page: bool = True

    def configs(self) -> dict[str, Path]:
        """Return the config of each model by its name, the first one first; raise InputError for a name of two."""
        configs = {self.model: self.config}
        for config in self.compared:
            if config.stem in configs:
                raise InputError(
                    f"two configs have the name '{config.stem}', by which clients ask for one; rename a file, or name"
                    " the first one with --model-name"
                )
            configs[config.stem] = config
        return configs


def read_keys(file: Path | None) -> tuple[bytes, ...]:
    """Return the keys of a file, one a line; raise InputError if it cannot be read, has none, or one that is not ASCII.

    Clients send other letters in encodings that differ, or not at all.
    """
    if file is None:
        return ()
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"--api-key-file: '{file}' cannot be read: {error.strerror}") from error
    foreign = next((number for number, line in enumerate(lines, start=1) if not line.isascii()), None)
    if foreign is not None:
        raise InputError(
            f"--api-key-file: '{file}', line {foreign} is not ASCII, as keys must be; save the file without other"
            " letters and without a byte order mark"
        )
    keys = tuple(line.strip() for line in lines if line.strip())
    if not keys:
        raise InputError(f"--api-key-file: '{file}' has no key; write one a line")
    return keys
