"""The sources that read the user's files: npz, images, csv, tfrecord, tfds."""

import sys
import types
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfopt.config.schema import Augment, Data
from tfopt.data import bundle
from tfopt.data.bundle import load_data
from tfopt.data.split import ArraySplit, StreamSplit
from tfopt.errors import BackendMissing, DataError, ExitCode

X, Y = np.arange(60, dtype=np.float64).reshape(20, 3), np.arange(20) % 2


def npz(path, **arrays):
    np.savez(path, **arrays)
    return Data(source="npz", path=path)


def refused(settings, message):
    with pytest.raises(DataError, match=message) as caught:
        load_data(settings, seed=0)
    assert "\n" not in str(caught.value)


def test_npz_pairs(tmp_path):
    data = load_data(npz(tmp_path / "d.npz", x=X, y=Y, other=X), seed=0)
    assert (data.train.examples, data.evaluation.examples, data.classes) == (16, 4, 2)
    arrays = {"x_train": X, "y_train": Y, "x_test": X[:5], "y_test": Y[:5]}
    data = load_data(npz(tmp_path / "d.npz", **arrays, x_val=X[:3], y_val=Y[:3]), seed=0)
    assert (data.train.examples, data.evaluation.examples, data.validation.examples) == (20, 5, 3)
    names = np.where(Y == 1, "yes", "no")
    data = load_data(npz(tmp_path / "d.npz", x=X.astype(np.uint8), y=names), seed=0)
    assert data.class_names == ("no", "yes")
    assert data.train.inputs.dtype == np.uint8


def test_npz_mistakes(tmp_path):
    path = tmp_path / "d.npz"
    refused(Data(source="npz", path=path), "there is no .*d.npz")
    refused(Data(source="npz", path=tmp_path / "no" / "d.npz"), "folder .*no' does not exist")
    refused(Data(source="npz", path=tmp_path), "is a folder. Give a file")
    refused(npz(path, X=X, y=Y), "no array 'x'. It has: X, y")
    refused(npz(path, x_train=X, y_train=Y, x_test=X), "no array 'y_test'")
    refused(npz(path, x=X, y=np.array([1, "a", None] * 6 + [0, 0], object)), "does not unpickle")
    refused(npz(path, x=X, y=Y[:4]), "d.npz .*inputs 20, .*labels 4")
    refused(npz(path, x=np.where(X == 7, np.nan, X), y=Y), "1 of 60 entries .* first in row 2")
    near = tmp_path / "data.npz"
    npz(near, x=X, y=Y)
    refused(Data(source="npz", path=tmp_path / "dat.npz"), "Did you mean 'data.npz'")


def test_npz_damage(tmp_path):
    path = tmp_path / "d.npz"
    settings = npz(path, x=X, y=Y)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(settings, "damaged")
    middle = bytearray(whole)
    start = whole.index(b"\x93NUMPY") + 200
    middle[start : start + 8] = b"\xff" * 8
    path.write_bytes(bytes(middle))
    refused(settings, "the array 'x' is damaged: Bad CRC-32")
    path.write_bytes(b"hello")
    refused(settings, "not an .npz file")
    path.write_bytes(b"")
    refused(settings, r"empty \(0 bytes\)")
    with path.open("wb") as file:
        np.save(file, X)
    refused(settings, r"single array \(.npy\)")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.txt", "hello")
    refused(settings, "no array 'x'")


def picture(path, shade, size=(6, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade).save(path)


def image_folder(root, split=""):
    for name, shade in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
        for number in range(10):
            suffix = (".png", ".jpg", ".bmp", ".gif")[number % 4]
            picture(root / split / name / f"{number}{suffix}", shade, size=(6 + number, 4))
    return Data(source="images", path=root, image_size=(5, 7))


@pytest.mark.parametrize("cache", ["auto", "never"])
def test_images_of_every_format_in_memory_and_streamed(tmp_path, cache):
    settings = image_folder(tmp_path).model_copy(update={"cache": cache})
    data = load_data(settings, seed=0)
    assert isinstance(data.train, ArraySplit if cache == "auto" else StreamSplit)
    assert data.class_names == ("cat", "dog")
    assert (data.classes, data.input_shape) == (2, (5, 7, 3))
    assert (data.train.examples, data.evaluation.examples) == (16, 4)
    for inputs, labels in data.train.numpy_batches(16):
        assert inputs.dtype == np.float32
        assert np.allclose(inputs[labels == 0][..., 0], 1.0, atol=0.02)
        assert np.allclose(inputs[labels == 1][..., 2], 1.0, atol=0.02)
        assert np.bincount(labels).tolist() == [8, 8]


def test_streamed_images_train_in_a_mixed_repeatable_order(tmp_path):
    data = load_data(image_folder(tmp_path).model_copy(update={"cache": "never"}), seed=0)
    options = {"batch_size": 16, "seed": 1, "first_epoch": 0, "epochs": 2}
    orders = [
        [batch[1].numpy().tolist() for batch in data.train.training_batches(**options, augment=a)]
        for a in (Augment(), Augment(shift=0.1))
    ]
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]
    assert sorted(orders[0][0]) == [0] * 8 + [1] * 8
    assert orders[0][0] != sorted(orders[0][0])


def test_image_folders_with_splits(tmp_path):
    image_folder(tmp_path, "train")
    image_folder(tmp_path, "val")
    settings = Data(source="images", path=tmp_path, image_size=(4, 4), channels=1)
    data = load_data(settings, seed=0)
    assert (data.train.examples, data.evaluation.examples, data.validation) == (20, 20, None)
    assert data.input_shape == (4, 4, 1)
    (inputs, labels) = next(data.train.numpy_batches(20))
    assert inputs[labels == 0].mean() == pytest.approx(0.299, abs=0.01)
    image_folder(tmp_path, "test")
    assert load_data(settings, seed=0).validation.examples == 20
    picture(tmp_path / "test" / "dgo" / "1.png", (0, 0, 0))
    refused(settings, "class that the training folder lacks. Did you mean 'dog'")


def test_sixteen_bit_and_transparent_images(tmp_path):
    wide = np.full((4, 4), 32896, np.uint16)
    (tmp_path / "a").mkdir()
    for number in range(4):
        Image.fromarray(wide).save(tmp_path / "a" / f"{number}.png")
    settings = Data(source="images", path=tmp_path, image_size=(4, 4), channels=1)
    (inputs, _) = next(load_data(settings, seed=0).train.numpy_batches(1))
    assert np.allclose(inputs, 128 / 255)
    picture(tmp_path / "a" / "clear.png", (255, 255, 255, 0), mode="RGBA")
    assert load_data(settings, seed=0).train.examples == 4


def test_image_mistakes(tmp_path):
    settings = Data(source="images", path=tmp_path, image_size=(4, 4))
    refused(settings, "has no folders")
    (tmp_path / "cat").mkdir()
    refused(settings, "cat' has no images")
    (tmp_path / "cat" / "1.png").write_bytes(b"not a picture")
    (tmp_path / "cat" / "2.png").write_bytes(b"")
    refused(settings, "cat/1.png' is not a readable image.* 1 more files")
    (tmp_path / "cat" / "1.png").unlink()
    refused(settings, "cat/2.png' is empty")
    (tmp_path / "file").write_text("x")
    refused(settings.model_copy(update={"path": tmp_path / "file"}), "is a file. Give a folder")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_image_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    (tmp_path / "cat").mkdir()
    for number in range(3):
        Image.fromarray(noise).save(tmp_path / "cat" / f"{number}{suffix}")
    bad = tmp_path / "cat" / f"1{suffix}"
    bad.write_bytes(bad.read_bytes()[:2000])
    settings = Data(source="images", path=tmp_path, image_size=(4, 4), evaluation_fraction=0.5)
    refused(settings, f"cannot be read: .*cat/1{suffix}' cannot be decoded")


def csv_file(path, text, **settings):
    path.write_text(text, encoding="utf-8")
    return Data(source="csv", path=path, **{"label": "kind", **settings})


def test_csv_columns(tmp_path):
    text = "\ufeffa, b,kind\n" + "".join(f"{n},{n / 2}, {'xy'[n % 2]}\n" for n in range(20)) + "\n"
    data = load_data(csv_file(tmp_path / "t.csv", text), seed=0)
    assert data.class_names == ("x", "y")
    assert data.input_shape == (2,)
    assert np.array_equal(data.train.inputs[:, 0] / 2, data.train.inputs[:, 1])
    assert np.array_equal(data.train.labels, data.train.inputs[:, 0] % 2)
    data = load_data(csv_file(tmp_path / "t.csv", text, features=("b",)), seed=0)
    assert data.input_shape == (1,)
    data = load_data(csv_file(tmp_path / "t.csv", text, features=("a",), label="b"), seed=0)
    assert data.classes is None
    data = load_data(csv_file(tmp_path / "t.csv", text, features=("b",), label="a"), seed=0)
    assert data.classes == 20


CSV = {
    "label": ("a,b\n1,2\n", "no column 'kind'.* Columns: a, b"),
    "near": ("a,kinds\n1,2\n", "Did you mean 'kinds'"),
    "cell": ("a,kind\n1,x\nhello,y\n", "line 3, column 'a': the cell is 'hello', not a number"),
    "empty cell": ("a,kind\n1,x\n,y\n", "line 3, column 'a': the cell is empty"),
    "nan": ("a,kind\n1,x\nnan,y\n", "line 3, column 'a': the cell is 'nan'"),
    "huge": ("a,kind\n1e300,x\n1,y\n", "line 2, column 'a': the cell is '1e300'"),
    "label empty": ("a,kind\n1,x\n2,\n", "line 3, column 'kind': the label is empty"),
    "ragged": ("a,kind\n1,x\n1,2,3\n", "line 3: 3 cells, but the header names 2"),
    "semicolons": ("a;kind\n1;x\n", "separated by semicolons"),
    "twice": ("a,a,kind\n1,2,x\n", "two columns named 'a'"),
    "no rows": ("a,kind\n", "no rows"),
    "only label": ("kind\nx\n", "no column besides the label"),
    "quoted line break": ('a,kind\n1,"x\ny"\nz,x\n', "line 4, column 'a'"),
    "empty": ("", r"empty \(0 bytes\)"),
}


@pytest.mark.parametrize("name", CSV)
def test_csv_mistakes(tmp_path, name):
    text, message = CSV[name]
    refused(csv_file(tmp_path / "t.csv", text), message)


def test_csv_features_and_encoding(tmp_path):
    settings = csv_file(tmp_path / "t.csv", "a,kind\n1,x\n", features=("kind",))
    refused(settings, "contains the label")
    refused(csv_file(tmp_path / "t.csv", "a,kind\n1,x\n", features=("A",)), "no column 'A'")
    settings.path.write_bytes("a,kind\n1,\xe9\n".encode("latin-1"))
    refused(settings, "cannot be read as CSV")


def encoded(shade, suffix="png"):
    return tf.io.encode_png(np.full((6, 5, 3), shade, np.uint8)).numpy()


def record(image, label):
    features = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))}
    kind = (
        tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
        if isinstance(label, int)
        else tf.train.Feature(float_list=tf.train.FloatList(value=[label]))
    )
    features["label"] = kind
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def tfrecords(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for entry in records:
            writer.write(entry)


def tfrecord_settings(path, **settings):
    return Data(source="tfrecord", path=path, **{"label": "label", "image_size": (3, 4)} | settings)


@pytest.mark.parametrize("cache", ["auto", "never"])
def test_tfrecord_file_folder_and_pattern(tmp_path, cache):
    for number in range(2):
        records = [record(encoded(80 * (n % 3)), n % 3) for n in range(15)]
        tfrecords(tmp_path / f"{number}.tfrecord", records)
    for path, rows in ((tmp_path / "0.tfrecord", 15), (tmp_path, 30), (tmp_path / "*.tf*", 30)):
        data = load_data(tfrecord_settings(path, cache=cache), seed=0)
        assert data.train.examples + data.evaluation.examples == rows
        assert (data.classes, data.input_shape) == (3, (3, 4, 3))
        for inputs, labels in data.train.numpy_batches(100):
            assert np.allclose(inputs[:, 0, 0, 0], 80 * labels / 255, atol=1e-5)
    tfrecords(tmp_path / "0.tfrecord", [record(encoded(n), n / 7) for n in range(10)])
    assert load_data(tfrecord_settings(tmp_path / "0.tfrecord"), seed=0).classes is None


def test_tfrecord_mistakes(tmp_path):
    path = tmp_path / "d.tfrecord"
    refused(tfrecord_settings(tmp_path), "has no TFRecord files")
    refused(tfrecord_settings(tmp_path / "*.x"), "no file matches")
    refused(tfrecord_settings(path), "there is no .*d.tfrecord")
    tfrecords(path, [])
    refused(tfrecord_settings(path), "hold no records")
    tfrecords(path, [record(encoded(1), 0)] * 4)
    refused(tfrecord_settings(path, label="lable"), "record 0 has no feature 'lable'. Did you mean")
    refused(tfrecord_settings(path, label="image"), "must be one int64 or float")
    refused(tfrecord_settings(path, image_feature="label"), "must be one encoded image")
    tfrecords(path, [record(encoded(1), 0), record(encoded(1), 0.5)])
    refused(tfrecord_settings(path), "int64 in some records, float in others")
    tfrecords(path, [b"not an example"])
    refused(tfrecord_settings(path), "record 0 is not a tf.train.Example")


def test_damaged_tfrecords_are_named(tmp_path):
    path = tmp_path / "b.tfrecord"
    tfrecords(tmp_path / "a.tfrecord", [record(encoded(n), n % 2) for n in range(6)])
    tfrecords(path, [record(encoded(n), n % 2) for n in range(6)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    refused(tfrecord_settings(tmp_path), "b.tfrecord' is damaged after 5 records")
    path.write_bytes(whole[:30] + b"\xff\xff" + whole[32:])
    refused(tfrecord_settings(tmp_path), "b.tfrecord' is damaged after 0 records")
    records = [record(encoded(n) if n != 4 else b"no image", n % 2) for n in range(6)]
    tfrecords(path, records)
    refused(tfrecord_settings(tmp_path), "b.tfrecord', record 4: the image is not a PNG")


def test_tfds_missing_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(BackendMissing, match=r"pip install 'tfopt\[tfds\]'") as caught:
        load_data(Data(source="tfds", name="mnist"), seed=0)
    assert caught.value.exit_code == ExitCode.BACKEND_MISSING


def fake_tfds(monkeypatch, load):
    package = types.ModuleType("tensorflow_datasets")
    package.load = load
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", package)


def test_tfds_images(monkeypatch):
    images = np.full((12, 6, 5, 3), 51, np.uint8)
    parts = tf.data.Dataset.from_tensor_slices((images, np.arange(12) % 3))
    fake_tfds(monkeypatch, lambda name, as_supervised: {"train": parts, "test": parts.take(6)})
    data = load_data(Data(source="tfds", name="shapes", image_size=(4, 4)), seed=0)
    assert (data.train.examples, data.evaluation.examples, data.classes) == (12, 6, 3)
    assert data.input_shape == (4, 4, 3)
    assert np.allclose(data.train.inputs, 0.2)


def test_tfds_mistakes(monkeypatch):
    def unknown(name, as_supervised):
        raise ValueError(f"no builder {name}\nmany more lines")

    fake_tfds(monkeypatch, unknown)
    refused(Data(source="tfds", name="shapes"), "cannot load 'shapes': ValueError: no builder")
    fake_tfds(monkeypatch, lambda name, as_supervised: {"all": None})
    refused(Data(source="tfds", name="shapes"), "no split 'train'. It has: all")
    ragged = tf.data.Dataset.from_generator(
        lambda: [(np.zeros((2, 2, 3)), 0)],
        output_signature=(
            tf.TensorSpec((None, None, 3), tf.uint8),
            tf.TensorSpec((), tf.int64),
        ),
    )
    fake_tfds(monkeypatch, lambda name, as_supervised: {"train": ragged})
    refused(Data(source="tfds", name="shapes"), "images differ in size. Set data.image_size")


def test_large_image_folders_stay_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "CACHE_LIMIT_BYTES", 1000)
    assert isinstance(load_data(image_folder(tmp_path), seed=0).train, StreamSplit)
