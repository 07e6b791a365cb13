"""Unfreeze layers at the beginning of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfopt.keras2.core import Layer, Model, keras
from tfopt.training.transfer.layer_choice import LayerChoice
from tfopt.training.transfer.weight_change import InitialWeights


class Unfreezing(keras.callbacks.Callback):
    """Freezes and unfreezes layers by epoch, and traces the step anew when they change.

    A traced step holds which layers compute with batch statistics and which gradients
    exist: below the lowest trained layer nothing is computed backwards.

    Args:
        layers: Every layer that ever trains.
        choices: When it does.
        start: The weights at the beginning of the stage.
    """

    def __init__(
        self, layers: list[Layer], choices: Mapping[str, LayerChoice], start: InitialWeights
    ) -> None:
        super().__init__()
        self._layers = layers
        self._choices = choices
        self._start = start

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the layers for an epoch, counted from 0.

        Raises:
            VerificationError: If a layer that was frozen until now has changed.
        """
        due = {layer.name: (self._choices[layer.name].from_epoch or 0) for layer in self._layers}
        arriving = [name for name, begin in due.items() if begin == epoch > 0]
        self._start.require_unchanged(arriving)
        changed = [layer for layer in self._layers if layer.trainable != (due[layer.name] <= epoch)]
        for layer in changed:
            layer.trainable = due[layer.name] <= epoch
        if changed:
            model: Model = self.model
            model.make_train_function(force=True)
