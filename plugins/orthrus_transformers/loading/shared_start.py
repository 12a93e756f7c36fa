"""The start of ranks that share a model: that they are as many as asked for, on devices of their own, and alike."""

from __future__ import annotations

import dataclasses
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from orthrus import BuildError, fingerprint_files
from orthrus.errors import GroupError
from orthrus.ranks.direct_sum import Joined
from orthrus.ranks.group import RankGroup, join
from orthrus.ranks.launch import launched
from orthrus_transformers.loading.random_weights import wants_random_weights
from orthrus_transformers.options import TransformersOptions

VERSIONED = ("orthrus-decoding", "torch", "transformers")
JOINED = {"joined": Joined.NORM, "fused": Joined.PRODUCT_AND_NORM}


def joined_group(options: TransformersOptions) -> RankGroup | None:
    """Return the group that shares the model; None: this process has it alone.

    Raises GroupError unless as many processes were started as the options ask for.
    """
    wanted, launch = options.parallel, launched()
    started = 1 if launch is None else launch.count
    if wanted == 1:
        if options.sums != "auto":
            raise BuildError(
                f"target.sums: '{options.sums}' is of several processes; set target.parallel, or leave it out"
            )
        return None
    command = f"torchrun --nproc-per-node {wanted} -m orthrus ..."
    if launch is None:
        raise GroupError(f"target.parallel={wanted} needs {wanted} processes; start them with {command}")
    if started != wanted:
        raise GroupError(
            f"target.parallel={wanted}, but torchrun started {started} processes; start {wanted} with {command}, or set"
            f" target.parallel={started}"
        )
    if launch.local_count != launch.count:
        raise GroupError("target.parallel takes processes of one host, and torchrun started some on others")
    group = join()
    assert group is not None, "there are several"
    group.check_same({**_versions(), "options of the target": _told(options)})
    return group


def check_alone(group: RankGroup | None, what: str) -> None:
    """Raise BuildError for what no group can share."""
    if group is not None:
        raise BuildError(f"{what} cannot be shared by several processes; set target.parallel=1")


def choose_rank_device(name: str, group: RankGroup, sums: str = "auto") -> torch.device:
    """Return this rank's device, its own GPU or the CPU; raise GroupError or BuildError if it has none.

    sums: as of the options.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise BuildError(
            f"target.device: with target.parallel={group.count} each process has a device of its own, and '{name}' is"
            " one for all; set target.device=cuda or cpu"
        )
    if name == "cpu":
        if sums != "auto":
            raise BuildError(f"target.sums: '{sums}' is for GPUs, and target.device is cpu; set target.sums=auto")
        return torch.device("cpu")
    if group.local_rank >= (there := torch.cuda.device_count()):
        raise GroupError(
            f"target.parallel={group.count} needs as many GPUs, and there {'is' if there == 1 else 'are'} {there};"
            " start fewer processes, or set target.device=cpu"
        )
    device = torch.device("cuda", group.local_rank)
    torch.cuda.set_device(device)  # whose NCCL this process speaks for
    wanted = ("fused" if group.count == 2 else "nccl") if sums == "auto" else sums  # as far as it was measured
    if wanted != "nccl" and (why := group.sum_directly(device, JOINED.get(wanted, Joined.NOTHING))) and sums != "auto":
        raise BuildError(f"target.sums: these GPUs cannot read each other's memory ({why}); set target.sums=nccl")
    return device


def check_same_model(group: RankGroup, directory: Path, options: TransformersOptions) -> None:
    """Raise GroupError if the ranks found different models."""
    config = hashlib.sha256((directory / "config.json").read_bytes()).hexdigest()[:16]
    weights = "random" if wants_random_weights(directory) else fingerprint_files(directory)
    group.check_same({"model's config.json": config, "model's weights": weights})


def _versions() -> dict[str, str]:
    return {f"version of {name}": _version(name) for name in VERSIONED}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # it runs from its source
        return "unknown"


def _told(options: TransformersOptions) -> str:
    settings = dataclasses.asdict(options)
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items()))
