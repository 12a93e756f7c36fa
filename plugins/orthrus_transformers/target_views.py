"""Views of a target: second attentions that are attached to its model, and let go again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from orthrus import BuildError
from orthrus.ranks.group import RankGroup
from orthrus_transformers.engines.engine import Engine
from orthrus_transformers.model.fused_layers import fuse_view, unfuse_view
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.views import View, make_view
from orthrus_transformers.training.dual_pass import DualPass


class TargetViews:
    """The views of a target, by name."""

    name: str
    device: torch.device
    group: RankGroup | None
    _model: Any
    _state: PassState
    _engine: Engine
    _views: dict[str, View]

    def attach_view(self, name: str, weights: Mapping[str, Tensor] | None = None) -> None:
        """Give every layer a second attention with these weights, or with copies of the model's own.

        weights: as `view_weights` names them. Raises BuildError if they do not fit, if the name is taken or if the
        model or the attention backend cannot have a view.
        """
        if name in self._views:
            raise BuildError(f"a view '{name}' is attached to '{self.name}' already; detach it first")
        self._views[name] = view = make_view(self._model, self._state, weights)
        fuse_view(self._model, view, self._engine.form)

    def detach_view(self, name: str) -> None:
        """Forget a view and its weights; raise BuildError if there is none of this name."""
        unfuse_view(self._model, self._view(name))
        del self._views[name]

    @property
    def view_names(self) -> frozenset[str]:
        """The names of the views that are attached."""
        return frozenset(self._views)

    def view_weights(self, name: str) -> dict[str, Tensor]:
        """Return a view's weights themselves, by the names of the model's weights that they stand beside."""
        return self._view(name).weights()

    def dual_pass(self, view: str, flex: bool | None = None, compiled: bool | None = None) -> DualPass:
        """Return the two passes that training an attached view takes; from then on its weights have gradients.

        flex: FlexAttention or dense masks; None: FlexAttention on a CUDA device. compiled: whether layers go through
        torch.compile; None: with FlexAttention.
        """
        if self.group is not None:
            raise BuildError("a view of a model that several processes share cannot be trained; set target.parallel=1")
        flex = self.device.type == "cuda" if flex is None else flex
        if flex and self.device.type != "cuda":
            raise BuildError(f"FlexAttention has no gradients on '{self.device.type}'; train with dense masks")
        return DualPass(self._model, self._state, self._view(view), flex, flex if compiled is None else compiled)

    def _view(self, name: str) -> View:
        if name not in self._views:
            raise BuildError(f"no view '{name}' is attached to '{self.name}'")
        return self._views[name]
