"""What both kinds of wrapper have in common: the layer inside must not notice them.

tfmot 0.8.1's wrappers call ``layer.call`` past ``layer.__call__``. So they lose the mask that
an ``Embedding(mask_zero=True)`` makes, hand a mask to layers that take none, and drop
activity regularization.
"""

from __future__ import annotations

from typing import Any

from tfopt.keras2.core import Layer


class SeeThrough:
    """Mixin of wrappers: masks and activity losses are those of ``self.layer``."""

    layer: Layer

    def show_layer(self) -> None:
        """Take over what tf_keras asks a layer for; called at the end of ``__init__``."""
        self.supports_masking = self.layer.supports_masking
        self._activity_regularizer = getattr(self.layer, "_activity_regularizer", None)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask that the layer inside makes."""
        return self.layer.compute_mask(inputs, mask)

    def mask_arguments(self, mask: Any) -> dict[str, Any]:
        """Return the mask as an argument, if the layer inside takes one."""
        return {"mask": mask} if self.layer._call_spec.expects_mask_arg else {}
