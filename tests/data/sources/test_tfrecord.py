import numpy as np
import pytest
import tensorflow as tf

from tfopt.config.schema import Data
from tfopt.data.load import load_data
from tfopt.errors import DataError


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


def test_tfrecord_mistakes(tmp_path, refused):
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


def test_damaged_tfrecords_are_named(tmp_path, refused):
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


def test_records_that_move_during_a_run(tmp_path):
    path = tmp_path / "a.tfrecord"
    tfrecords(path, [record(encoded(n), n % 2) for n in range(6)])
    data = load_data(tfrecord_settings(path, cache="never"), seed=0)
    tfrecords(path, [record(encoded(n), n % 2) for n in range(2)])
    with pytest.raises(DataError, match=r"a.tfrecord', record \d is no longer where it was"):
        list(data.train.numpy_batches(4))
