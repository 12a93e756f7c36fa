"""Parts of a drafter's layer for few tokens on a GPU, in a kernel each.

B: rows, n: tokens, E: hidden size, H: heads, Hkv: heads of keys, d: size of a head, m: inner size of the MLP.
Passes over few tokens take as long as it takes to read the weights and to launch kernels: those of the target's fused
layers serve here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from orthrus.drafter_models.key_values import KeyValues
from orthrus.kernels import skinny_linear
from orthrus.kernels.available import row_kernels
from orthrus.kernels.normed import unnormed


class LayerTensors(Protocol):
    """The weights of a drafter's layer; those that read the same input are one matrix."""

    @property
    def projections(self) -> Tensor:
        """Queries, keys and values: [(H + 2 Hkv) d, E]."""

    @property
    def head_norms(self) -> Tensor | None:
        """Of queries and keys: [H + Hkv, 1, d]; None: they are not normed."""

    @property
    def output(self) -> Tensor:
        """[E, H d]."""

    @property
    def mlp_norm(self) -> Tensor:
        """[E]."""

    @property
    def gate_up(self) -> Tensor:
        """[2 m, E]."""

    @property
    def down(self) -> Tensor:
        """[E, m]."""


@dataclass(frozen=True, eq=False)
class NarrowLayer:
    """The weights of a layer that such kernels read, and the sizes of its heads.

    projections [(H + 2 Hkv) d, E]. head_norms: weights [d] of queries and keys, or None. output [E, H d], gate_up
    [2 m, E], down [E, m].
    """

    projections: Tensor
    head_norms: tuple[Tensor, Tensor] | None
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor
    heads: int
    key_heads: int
    epsilon: float

    @classmethod
    def of(cls, weights: LayerTensors, heads: int, key_heads: int, epsilon: float) -> NarrowLayer:
        """Return a layer with these weights: nothing is copied."""
        norms = weights.head_norms
        return cls(
            projections=weights.projections,
            head_norms=None if norms is None else (norms[0, 0], norms[heads, 0]),
            output=weights.output,
            mlp_norm=weights.mlp_norm,
            gate_up=weights.gate_up,
            down=weights.down,
            heads=heads,
            key_heads=key_heads,
            epsilon=epsilon,
        )

    @property
    def head_size(self) -> int:
        """The size of a head."""
        return self.projections.shape[0] // (self.heads + 2 * self.key_heads)

    def fits(self, hidden: Tensor) -> bool:
        """Return whether these kernels take a pass over hidden [B, n, E]: few tokens, in bfloat16, on a GPU."""
        return fits(hidden, self.projections, self.output, self.gate_up, self.down, head_size=self.head_size)

    def write(
        self, joined: Tensor, angles: tuple[Tensor, Tensor], store: KeyValues, layer: int, slots: Tensor
    ) -> Tensor:
        """Return queries [B, H, n, d] of projections `joined` [B, n, (H + 2 Hkv) d]; the rest goes to the store.

        Queries and keys are normed and turned by angles [B, 1, n, d]; keys and values that are not finite are written
        as 0. `joined` may be without queries [B, n, 2 Hkv d]; then H is 0.
        """
        from orthrus.kernels import triton_small_ops

        rows, queries = len(joined), joined.shape[-1] // self.head_size - 2 * self.key_heads
        cosines, sines = (angle[:, 0] for angle in angles)
        norms = None if self.head_norms is None else (*self.head_norms, self.epsilon)
        destination = store.keys[layer][:rows], store.values[layer][:rows], slots
        heads = queries, self.key_heads
        return triton_small_ops.split_heads(joined, heads, cosines, sines, norms, destination, finite=True)[0]

    def finish(self, seen: Tensor, residual: Tensor) -> Tensor:
        """Return the layer's output, in place of the residual [B, n, E], from what was attended to [B, n, H d]."""
        normed = skinny_linear.linear_added(seen, self.output, residual, self.mlp_norm)
        inner = skinny_linear.gated(normed, self.gate_up, self.epsilon)
        skinny_linear.linear_added(inner, self.down, residual, None)
        return residual


def fits(hidden: Tensor, *weights: Tensor, head_size: int = 32) -> bool:
    """Return whether `product` takes hidden [B, n, E] with each of these weights [N, E]."""
    narrow = skinny_linear.fits(hidden, weights, head_size, batch_invariant=False)
    return narrow and row_kernels(hidden.device) is not None


def product(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return hidden [B, n, E] times weight [N, E], transposed."""
    return skinny_linear.linear(unnormed(hidden), weight, None, 0.0)


def normed_product(hidden: Tensor, norm: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return the root mean square norm of hidden [B, n, E], with weight `norm` [E], times weight [N, E], transposed."""
    return skinny_linear.linear(skinny_linear.gain(hidden, norm), weight, None, epsilon)
