"""Put pretrained weights into a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.errors import ModelError
from tfopt.keras2.core import Model
from tfopt.models.transformers.config import TransformerConfig
from tfopt.models.transformers.initialization import Initialization
from tfopt.models.transformers.names import (
    TIED,
    TensorSource,
    block_of,
    meant_shapes,
    prefix_of,
    reason_unused,
    sources,
    table_name,
)
from tfopt.models.transformers.narrowing import factorise, strongest_neurons
from tfopt.models.transformers.tensors import Array, Tensor


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A pretrained model on disk.

    Attributes:
        folder: Its folder.
        config: Its shape.
        tensors: Its tensors by name.
    """

    folder: str
    config: TransformerConfig
    tensors: Mapping[str, Tensor]


def load_weights(
    model: Model, config: TransformerConfig, source: Pretrained, blocks: Sequence[int]
) -> Initialization:
    """Set the weights of a model from a pretrained one.

    Where the model is narrower than the pretrained one, a layer whose shapes differ stays
    random; its table of tokens is derived, and so are feed-forward parts of the same hidden
    width. Everything else of the body must be in the files.

    Args:
        model: The model, with random weights.
        config: Its shape.
        source: The pretrained model.
        blocks: For each block of the model, the number of the pretrained one.

    Returns:
        What was loaded, derived, left random and not used.

    Raises:
        ModelError: Naming tensors that are missing, unknown, or of another shape than the
            config says.
    """
    loading = _Loading(model, config, source)
    for layer, entry, is_body in sources(config, blocks):
        loading.load(layer, entry, is_body=is_body)
    return loading.finish(blocks)


class _Loading:
    """One loading: problems are collected, and told together."""

    def __init__(self, model: Model, config: TransformerConfig, source: Pretrained) -> None:
        self._layers = {layer.name: layer for layer in model.layers if layer.weights}
        self._is_language_model = any(layer.name == "lm_head" for layer in model.layers)
        self._config = config
        self._source = source
        self._tensors = source.tensors
        self._prefix = prefix_of(config.family, source.tensors)
        self._used: set[str] = set()
        self._problems: list[str] = []
        self._loaded: list[str] = []
        self._derived: dict[str, str] = {}
        self._new: dict[str, str] = {}
        self._wide: dict[str, list[Array]] = {}

    def load(self, name: str, entry: TensorSource, *, is_body: bool) -> None:
        """Load one layer, if the model has it."""
        layer = self._layers.get(name)
        if layer is None:
            return
        prefix = self._prefix if is_body else ""
        found = [self._find(f"{prefix}{tensor}") for tensor in _tensor_names(entry)]
        missing = [tensor for tensor in found if tensor not in self._tensors]
        if missing:
            if is_body or len(missing) < len(found):
                self._problems.append(f"missing {', '.join(missing)}")
            else:
                self._new[name] = "the pretrained model has no such head"
            return
        self._used.update(found)
        tensors = [self._tensors[tensor] for tensor in found]
        stored = [_shape(entry, tensor) for tensor in tensors]
        meant = meant_shapes(name, entry, self._source.config)
        if stored != meant:
            self._problems.append(
                f"{found[0]} is for weights of {stored}, where the config means {meant}"
            )
        else:
            self._take(name, entry, tensors)

    def _take(self, name: str, entry: TensorSource, tensors: Sequence[Tensor]) -> None:
        """Load, derive or leave random a layer whose tensors are as the config means them."""
        layer, theirs = self._layers[name], self._source.config
        shapes = [tuple(variable.shape) for variable in layer.weights]
        stored = [_shape(entry, tensor) for tensor in tensors]
        is_attention = re.search(r"attention_(query|key|value|output)$", name)
        is_inner = re.fullmatch(r"layer_\d+_(intermediate|output)", name)
        if is_attention and self._config.heads != theirs.heads:
            self._new[name] = (
                f"{self._config.heads} heads, where the pretrained model has {theirs.heads}"
            )
        elif stored == shapes:
            layer.set_weights([_value(entry, tensor) for tensor in tensors])
            self._loaded.append(name)
        elif name == "word_embeddings":
            self._derive_table(layer, tensors[0])
        elif is_inner and self._config.hidden == theirs.hidden:
            self._wide[name] = [_value(entry, tensor) for tensor in tensors]
        else:
            self._new[name] = f"{shapes[0]}, where the pretrained model has {stored[0]}"

    def finish(self, blocks: Sequence[int]) -> Initialization:
        """Return the record.

        Raises:
            ModelError: If there were problems.
        """
        self._check_tied()
        self._derive_neurons()
        unused: dict[str, str] = {}
        left_out = set(range(self._source.config.layers)) - set(blocks)
        for name in sorted(set(self._tensors) - self._used):
            block = block_of(name, self._prefix, self._config.family)
            if block in left_out:
                why: str | None = f"block {block} is left out"
            else:
                why = reason_unused(name, self._prefix)
            if why is None:
                self._problems.append(f"nothing takes {name}")
            else:
                unused[name] = why
        if self._problems:
            more = len(self._problems) - 8
            shown = "; ".join(self._problems[:8]) + (f"; and {more} more" if more > 0 else "")
            raise ModelError(
                f"The weights in {self._source.folder} do not fit its config.json: {shown}."
            )
        done = {*self._loaded, *self._derived, *self._new}
        for name in self._layers:
            if name not in done:
                self._new[name] = "a new head"
        return Initialization(
            checkpoint=self._source.folder,
            loaded=tuple(self._loaded),
            derived=self._derived,
            new=self._new,
            unused=unused,
        )

    def _find(self, name: str) -> str:
        """Return the name that the files have: models converted from TensorFlow say gamma, beta."""
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old = old.replace("LayerNorm.bias", "LayerNorm.beta")
        return old if name not in self._tensors and old in self._tensors else name

    def _derive_neurons(self) -> None:
        """Give narrower feed-forward parts the strongest neurons of the pretrained ones."""
        mine, theirs = self._config.intermediate, self._source.config.intermediate
        for name in [name for name in self._wide if name.endswith("_intermediate")]:
            partner = name.replace("_intermediate", "_output")
            if partner not in self._wide:
                continue  # it is among the problems
            kernel, bias = self._wide[name]
            back, offset = self._wide[partner]
            kept = strongest_neurons(kernel, back, mine)
            self._layers[name].set_weights([kernel[:, kept], bias[kept]])
            self._layers[partner].set_weights([back[kept], offset])
            how = f"the {mine} strongest of {theirs} neurons"
            self._derived.update({name: how, partner: how})

    def _derive_table(self, layer: Any, tensor: Tensor) -> None:
        """Give the table of tokens the main directions of the pretrained one."""
        width = layer.embeddings.shape[1]
        words, back = factorise(tensor.read(), width)
        how = f"rank {width} of the pretrained table {tensor.shape}, by singular values"
        self._derived["word_embeddings"] = how
        projection = self._layers.get("word_embeddings_projection")
        if projection is None:
            # Without a way back the rows themselves must be as far apart as before.
            layer.set_weights([words * np.linalg.norm(back, axis=1)])
            return
        layer.set_weights([words])
        if tuple(projection.kernel.shape) == back.shape:
            projection.set_weights([back])
            self._derived[projection.name] = how
        else:
            self._new[projection.name] = f"to a width of {self._config.hidden}"

    def _check_tied(self) -> None:
        name = TIED[self._config.family]
        if not self._is_language_model or name not in self._tensors:
            return
        table = self._tensors[table_name(self._config.family, self._prefix)]
        if not np.array_equal(self._tensors[name].read(), table.read()):
            self._problems.append(f"{name} is not the table of tokens, to which the head is tied")


def _tensor_names(entry: TensorSource) -> list[str]:
    if entry.kind == "vector":
        return [entry.name]
    return [f"{entry.name}.weight", *([] if entry.kind == "table" else [f"{entry.name}.bias"])]


def _shape(entry: TensorSource, tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of the layer's weight that a tensor fits."""
    shape = tensor.shape
    if entry.kind == "dense" and len(shape) == 2:
        return (shape[1], shape[0])
    if entry.kind == "vector":
        return (*shape, 1)
    if entry.third is not None and shape[-1] % 3 == 0:
        return (*shape[:-1], shape[-1] // 3)
    return shape


def _value(entry: TensorSource, tensor: Tensor) -> npt.NDArray[np.float32]:
    values = tensor.read()
    if entry.kind == "dense" and values.ndim == 2:
        return values.T
    if entry.kind == "vector":
        return values[:, None]
    if entry.third is not None:
        return np.split(values, 3, axis=-1)[entry.third]
    return values
