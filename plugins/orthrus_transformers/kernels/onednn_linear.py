"""CPU linear layers through oneDNN, with prepacked weights.

torch multiplies float32 matrices with a BLAS whose kernels for a few tokens read weights far below the memory's speed:
docs/results/benchmarks.md has the figures. I: inputs, N: outputs.
"""

from __future__ import annotations

import platform
import warnings

import torch
from torch import Tensor
from torch.nn.functional import linear

TOKENS = 16  # that the copies are laid out for: as good for a single token, better for more than a layout for one
MOST_BYTES = 4 * 2**30  # of a model whose weights are copied; above, they are read as they lie


class PackedLinear:
    """A linear layer: weight [N, I] and bias [N]. A weight that is changed in place is packed anew.

    Torch counts changes in place, but for those through `.data` or numpy, which are not seen.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, copies: bool = False) -> None:
        self.weight = weight
        self.bias = bias
        self._copies = copies
        self._by_onednn = fits(weight)
        self._packed = weight
        self._copied = (0, -1)  # where the weight was, and how often it had been changed

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return inputs [..., I] times the transposed weight, plus the bias: [..., N]."""
        if not self._by_onednn:
            return linear(inputs, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(inputs, self._laid_out(), self.bias, "none", [], "")  # type: ignore[no-any-return]  # torch's operators have no types

    def add_to(self, residual: Tensor, inputs: Tensor) -> Tensor:
        """Return residual [B, n, N] plus the product [B, n, N], rounded once; the residual may be written over."""
        if not self._by_onednn:
            assert self.bias is None, "only a product on a CPU adds a bias, too"
            residual.flatten(0, 1).addmm_(inputs.flatten(0, 1), self.weight.t())
            return residual
        return torch.ops.mkldnn._linear_pointwise.binary(inputs, residual, self._laid_out(), self.bias, "add")  # type: ignore[no-any-return]  # as above

    @property
    def holds_copy(self) -> bool:
        """Whether the weight is held a second time, as oneDNN lays it out."""
        return self._packed is not self.weight

    def _laid_out(self) -> Tensor:
        now = self.weight.data_ptr(), self.weight._version
        if self._copies and self._copied != now:
            self._packed, self._copied = self._copy(), now
        return self._packed

    def _copy(self) -> Tensor:
        self._packed = self.weight  # the old copy goes first
        try:
            copied: Tensor = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), TOKENS)
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            self._copies = False
            warnings.warn(
                "memory does not hold the weights twice, so passes take longer; target.engine=eager copies none",
                stacklevel=2,
            )
            return self.weight
        return copied


def fits(weight: Tensor) -> bool:
    """Tell whether oneDNN multiplies by this weight here: on an x86 CPU, in float32 or bfloat16, where torch has it."""
    there = torch._C._has_mkldnn and platform.machine() in ("x86_64", "AMD64")
    there = there and all(hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
    if weight.device.type != "cpu" or not there or weight.is_inference():
        return False
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def is_small(model: torch.nn.Module) -> bool:
    """Tell whether a model is small enough for its weights to be held twice."""
    sizes = (weight.numel() * weight.element_size() for weight in model.parameters())
    return sum(sizes, 0) <= MOST_BYTES
