from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from tfopt.distributed.horovod import reduction
from tfopt.distributed.horovod.reduction import Reduction
from tfopt.errors import BackendMissing, InputError


class Fake:
    """A Horovod of two ranks that both have the same gradients."""

    Average, Sum, Adasum = "average", "sum", "adasum"
    Compression = SimpleNamespace(none="none", fp16="fp16")
    global_process_set = SimpleNamespace(size=lambda: 2, process_set_id=0)

    def __init__(self, *, ranks: int = 2, mpi: bool = False) -> None:
        self.sent: list[tuple[int, str, str]] = []
        self.size = lambda: ranks
        self.mpi_enabled = lambda: mpi

    def allreduce(self, tensor: Any, **settings: Any) -> Any:
        return self.grouped_allreduce([tensor], **settings)[0]

    def grouped_allreduce(self, tensors: list[Any], **settings: Any) -> list[Any]:
        self.sent.append((len(tensors), settings["name"], settings["compression"]))
        return [tensor * (2 if settings["op"] == "sum" else 1) for tensor in tensors]

    def allgather(self, tensor: Any, *, name: str, **settings: Any) -> Any:
        self.sent.append((1, name, "rows"))
        return tf.concat([tensor, tensor], axis=0)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(reduction, "hvd", lambda: fake)
    return fake


SLICES = tf.IndexedSlices(tf.ones((2, 3)), tf.constant([1, 4]), dense_shape=tf.constant([5, 3]))
GRADIENTS = [tf.ones((2,)), None, SLICES, tf.ones((3,)), tf.ones((1,)), tf.ones((), tf.float64)]


@pytest.mark.parametrize(
    ("groups", "lengths"), [(0, [1, 1, 1, 1]), (1, [3, 1]), (2, [2, 1, 1]), (9, [1, 1, 1, 1])]
)
def test_neighbours_of_one_type_go_together(two: Fake, groups: int, lengths: list[int]) -> None:
    found = Reduction("sum", groups=groups)(GRADIENTS)
    assert [count for count, _, what in two.sent if what != "rows"] == lengths
    assert found[1] is None
    for index in (0, 3, 4, 5):
        assert found[index].shape == GRADIENTS[index].shape
        assert float(tf.reduce_max(found[index])) == 2
    assert len({name for _, name, _ in two.sent}) == len(two.sent)


def test_rows_in_use_are_gathered_and_averaged(two: Fake) -> None:
    (found,) = Reduction()([SLICES])
    assert found.indices.numpy().tolist() == [1, 4, 1, 4]
    assert float(tf.reduce_max(tf.convert_to_tensor(found))) == 1
    (dense,) = Reduction(sparse_as_dense=True)([SLICES])
    assert dense.shape == (5, 3)


def test_names_are_equal_on_all_ranks_and_differ_between_optimizers(two: Fake) -> None:
    one, other = Reduction(compression="float16"), Reduction()
    for which in (one, other, one):
        which([tf.ones(1)])
    first, second, again = [name for _, name, _ in two.sent]
    assert first == again != second
    assert first.startswith("HorovodAllreduce_tfopt_")
    assert [what for *_, what in two.sent] == ["fp16", "none", "fp16"]


def test_replicas_of_tensorflow_are_refused(two: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tf.distribute, "get_strategy", lambda: SimpleNamespace(num_replicas_in_sync=2)
    )
    with pytest.raises(InputError, match="strategy with 2 replicas"):
        Reduction()([tf.ones(1)])


def test_xla_is_refused(two: Fake) -> None:
    step = tf.function(lambda x: Reduction()([x])[0], jit_compile=True)
    with pytest.raises(InputError, match="jit_compile=False"):
        step(tf.ones(1))


@pytest.mark.parametrize(
    ("fake", "error", "words"),
    [
        (Fake(mpi=False), BackendMissing, "this process uses Gloo. Build MPI in"),
        (Fake(ranks=3, mpi=True), InputError, "needs 2, 4, 8, ... ranks. There are 3"),
    ],
)
def test_adasum_needs_mpi_and_a_power_of_two(
    fake: Fake, error: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduction, "hvd", lambda: fake)
    with pytest.raises(error, match=words):
        Reduction("adasum").require_valid()


def test_one_rank_gets_its_own_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, "hvd", lambda: Fake(ranks=1))
    assert Reduction()(GRADIENTS) == GRADIENTS
