"""Rotary positions of a drafter's layers. d: size of a head, P: positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from orthrus.drafter_models.config_keys import ConfigKeys

KINDS = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Rotary:
    """Frequencies by kind; those that a kind does not use are None, or at a default that changes nothing."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 1.0
    original_positions: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None

    def frequencies(self, size: int) -> Tensor:
        """Return the angles per position [d / 2], float32."""
        exponents = torch.arange(0, size, 2, dtype=torch.int64).float() / size
        plain = 1.0 / (self.theta**exponents)
        if self.kind == "linear":
            return plain / self.factor
        if self.kind == "llama3":
            return self._llama3(plain)
        if self.kind == "yarn":
            return self._yarn(plain, size)
        return plain

    def scale(self) -> float:
        """Return what cosines and sines are multiplied by."""
        if self.kind != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

    def _llama3(self, plain: Tensor) -> Tensor:
        """Divide the long waves by the factor, keep the short ones, and blend between."""
        wavelengths = 2 * math.pi / plain
        low, high = self.low_frequency_factor, self.high_frequency_factor
        blend = ((self.original_positions / wavelengths - low) / (high - low)).clamp(0, 1)
        return (1 - blend) * plain / self.factor + blend * plain

    def _yarn(self, plain: Tensor, size: int) -> Tensor:
        """Divide the frequencies that turn seldom by the factor, keep those that turn often, with a ramp between."""
        low, high = (self._dimension(turns, size) for turns in (self.beta_fast, self.beta_slow))
        first, last = max(math.floor(low), 0), min(math.ceil(high), size - 1)
        ramp = (torch.arange(size // 2).float() - first) / max(last - first, 0.001)
        divided = ramp.clamp(0, 1)
        return plain / self.factor * divided + plain * (1 - divided)

    def _dimension(self, turns: float, size: int) -> float:
        """Return the dimension whose frequency turns so often in the original positions."""
        return size * math.log(self.original_positions / (turns * 2 * math.pi)) / (2 * math.log(self.theta))


class RotaryTable:
    """Cosines and sines [P, d] of the first positions; it grows before a pass, never in one."""

    def __init__(self, rotary: Rotary, size: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self._frequencies = rotary.frequencies(size).to(device)
        self._scale = rotary.scale()
        self._dtype = dtype
        self.cosines = self.sines = torch.zeros(0, size, dtype=dtype, device=device)

    def cover(self, positions: int) -> None:
        """Hold at least so many positions."""
        if positions > len(self.cosines):
            places = torch.arange(positions, device=self._frequencies.device).float()
            angles = torch.outer(places, self._frequencies).repeat(1, 2)
            self.cosines = (angles.cos() * self._scale).to(self._dtype)
            self.sines = (angles.sin() * self._scale).to(self._dtype)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines [R, 1, n, d] of positions [R, n]; those beyond the table are taken as its last."""
        places = positions.clamp(max=len(self.cosines) - 1)
        return self.cosines[places][:, None], self.sines[places][:, None]


def rotate(states: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Return states [R, H, n, d] turned by the angles of their positions."""
    cosines, sines = angles
    first, second = states.chunk(2, dim=-1)
    return states * cosines + torch.cat((-second, first), dim=-1) * sines


def read_rotary(keys: ConfigKeys, theta: float) -> Rotary:
    """Return what a config says of rotary positions, in any of three spellings; theta: where it gives none."""
    nested = keys.section("rope_parameters" if "rope_parameters" in keys else "rope_scaling")
    keys.ignore(["rope_parameters"])
    if "rope_parameters" in keys:
        keys.must_be("rope_scaling", why="stands beside rope_parameters, and one of them would be ignored")
    else:
        keys.ignore(["rope_scaling"])
    base = keys.number("rope_theta", None)
    inner = nested.number("rope_theta", base)
    if base is not None and inner != base:
        raise keys.refusal("rope_theta", f"contradicts rope_parameters.rope_theta, {inner:g}")
    kind = nested.choice("rope_type", KINDS, nested.choice("type", KINDS, "default"))
    nested.must_be("partial_rotary_factor", 1, 1.0, why="turns a part of each head, which is not supported")
    rotary = _of_kind(kind, nested, keys, theta if inner is None else inner)
    nested.finish()
    return rotary


def _of_kind(kind: str, nested: ConfigKeys, keys: ConfigKeys, theta: float) -> Rotary:
    if kind == "default":
        return Rotary(theta)
    factor = nested.number("factor")
    if kind == "linear":
        return Rotary(theta, kind, factor)
    original = nested.integer("original_max_position_embeddings", None)
    if original is None:
        original = keys.integer("max_position_embeddings")
    if kind == "llama3":
        low, high = nested.number("low_freq_factor"), nested.number("high_freq_factor")
        if high <= low:
            raise nested.refusal("high_freq_factor", f"must be more than low_freq_factor, {low:g}")
        return Rotary(theta, kind, factor, low, high, original)
    nested.must_be("mscale", why="is not supported")
    nested.must_be("mscale_all_dim", why="is not supported")
    nested.must_be("truncate", True, why="is not supported")
    return Rotary(
        theta,
        kind,
        factor,
        original_positions=original,
        beta_fast=nested.number("beta_fast", 32.0),
        beta_slow=nested.number("beta_slow", 1.0),
        attention_factor=nested.number("attention_factor", None),
    )
