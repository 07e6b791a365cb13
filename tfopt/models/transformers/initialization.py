"""Put pretrained weights into a model, and say of every layer where its weights come from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tfopt.errors import ModelError
from tfopt.legacy_keras import Model
from tfopt.models.transformers.config import TransformerConfig
from tfopt.models.transformers.names import (
    TIED,
    Source,
    block_of,
    prefix_of,
    reason_unused,
    sources,
    table_name,
)
from tfopt.models.transformers.narrowing import factorise, strongest_neurons
from tfopt.models.transformers.tensors import Array, Tensor

_RECORD = "_tfopt_initialization"


@dataclass(frozen=True, slots=True)
class Initialization:
    """Where the weights of a model come from.

    Attributes:
        checkpoint: Folder of the pretrained model; None if there was none.
        loaded: Layers whose weights are those of the files.
        derived: Layers whose weights are computed from the files, and how.
        new: Layers with random weights, and why.
        unused: Tensors of the files that have no place in the model, and why.
    """

    checkpoint: str | None
    loaded: tuple[str, ...] = ()
    derived: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, str] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """Return one line, such as ``76 layers loaded, 1 new (classifier: a new head)``."""
        parts = [f"{len(self.loaded)} layers loaded"]
        for word, layers in (("derived", self.derived), ("new", self.new)):
            if layers:
                first, why = next(iter(layers.items()))
                more = f", and {len(layers) - 1} more" if len(layers) > 1 else ""
                parts.append(f"{len(layers)} {word} ({first}: {why}{more})")
        return ", ".join(parts)


def initialization_of(model: Model) -> Initialization | None:
    """Return where the weights of a built transformer came from; None for other models."""
    return getattr(model, _RECORD, None)


def remember_initialization(model: Model, record: Initialization) -> None:
    """Keep the record with the model, for this process."""
    setattr(model, _RECORD, record)


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

    def load(self, name: str, entry: Source, *, is_body: bool) -> None:
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
        arrays = [self._tensors[tensor] for tensor in found]
        shapes = [tuple(variable.shape) for variable in layer.weights]
        stored = [_shape(entry, tensor) for tensor in arrays]
        if name == "word_embeddings" and stored[0] != shapes[0]:
            self._derive_table(layer, arrays[0])
        elif self._loses_neurons(name, stored, shapes):
            self._wide[name] = [_value(entry, tensor) for tensor in arrays]
        elif reason := self._reason_new(name, stored, shapes):
            self._new[name] = reason
        elif stored != shapes:
            self._problems.append(
                f"{found[0]} is for {stored[0]}, where the config means {shapes[0]}"
            )
        else:
            layer.set_weights([_value(entry, tensor) for tensor in arrays])
            self._loaded.append(name)

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

    def _reason_new(
        self, name: str, stored: Sequence[tuple[int, ...]], shapes: Sequence[tuple[int, ...]]
    ) -> str | None:
        mine, theirs = self._config, self._source.config
        if mine.heads != theirs.heads and re.search(r"attention_(query|key|value|output)$", name):
            return f"{mine.heads} heads, where the pretrained model has {theirs.heads}"
        is_narrowed = (mine.hidden, mine.intermediate) != (theirs.hidden, theirs.intermediate)
        if is_narrowed and stored != shapes:
            return f"{shapes[0]}, where the pretrained model has {stored[0]}"
        return None

    def _loses_neurons(
        self, name: str, stored: Sequence[tuple[int, ...]], shapes: Sequence[tuple[int, ...]]
    ) -> bool:
        mine, theirs = self._config, self._source.config
        is_inner = re.search(r"^layer_\d+_(intermediate|output)$", name) is not None
        return is_inner and mine.hidden == theirs.hidden and stored != shapes

    def _derive_neurons(self) -> None:
        """Give narrower feed-forward parts the strongest neurons of the pretrained ones."""
        mine, theirs = self._config.intermediate, self._source.config.intermediate
        for name in [name for name in self._wide if name.endswith("_intermediate")]:
            partner = name.replace("_intermediate", "_output")
            kernel, bias = self._wide[name]
            back, offset = self._wide[partner]
            if kernel.shape[1] != theirs or back.shape[0] != theirs:
                self._problems.append(
                    f"{name} and {partner} have {kernel.shape[1]} and {back.shape[0]} neurons, "
                    f"where the config says {theirs}"
                )
                continue
            kept = strongest_neurons(kernel, back, mine)
            self._layers[name].set_weights([kernel[:, kept], bias[kept]])
            self._layers[partner].set_weights([back[kept], offset])
            how = f"the {mine} strongest of {theirs} neurons"
            self._derived.update({name: how, partner: how})

    def _derive_table(self, layer: Any, tensor: Tensor) -> None:
        """Give the table of tokens the main directions of the pretrained one."""
        theirs = (self._source.config.vocabulary, self._source.config.hidden)
        rows, width = layer.embeddings.shape
        if tensor.shape != theirs or rows != theirs[0]:
            self._problems.append(f"the table of tokens is {tensor.shape}, not {theirs}")
            return
        words, back = factorise(tensor.read(), width)
        how = f"rank {width} of the pretrained table {theirs}, by singular values"
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


def _tensor_names(entry: Source) -> list[str]:
    if entry.kind == "vector":
        return [entry.name]
    return [f"{entry.name}.weight", *([] if entry.kind == "table" else [f"{entry.name}.bias"])]


def _shape(entry: Source, tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of the layer's weight that a tensor fits."""
    shape = tensor.shape
    if entry.kind == "dense" and len(shape) == 2:
        return (shape[1], shape[0])
    if entry.kind == "vector":
        return (*shape, 1)
    if entry.third is not None:
        return (*shape[:-1], shape[-1] // 3)
    return shape


def _value(entry: Source, tensor: Tensor) -> npt.NDArray[np.float32]:
    values = tensor.read()
    if entry.kind == "dense" and values.ndim == 2:
        return values.T
    if entry.kind == "vector":
        return values[:, None]
    if entry.third is not None:
        return np.split(values, 3, axis=-1)[entry.third]
    return values
