import numpy as np
import pytest
from PIL import Image

from tfopt.config.schema import Augment, Data, Train
from tfopt.data import load
from tfopt.data.epochs import EpochPlan
from tfopt.data.load import load_data
from tfopt.data.split import ArraySplit, StreamSplit
from tfopt.errors import RecipeError
from tfopt.training.loop import require_validation


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


@pytest.mark.parametrize(
    ("folders", "rows"),
    [(("train", "val", "test"), 20), (("train", "val"), None), (("train", "test"), None)],
)
def test_the_val_folder_validates_where_another_one_evaluates(tmp_path, folders, rows):
    for folder in folders:
        settings = image_folder(tmp_path, folder)
    data = load_data(settings, seed=0)
    assert (data.validation.examples if data.validation else None) == rows
    best = Train(epochs=1, keep="best")
    if rows:
        require_validation(best, data.validation)
        return
    with pytest.raises(RecipeError, match="keep: best needs rows.*a val folder.*validation_frac"):
        require_validation(best, data.validation)


def test_streamed_images_train_in_a_mixed_repeatable_order(tmp_path):
    data = load_data(image_folder(tmp_path).model_copy(update={"cache": "never"}), seed=0)
    options = {"batch_size": 16, "seed": 1, "first_epoch": 0, "epochs": 2}
    orders = [
        [
            batch[1].numpy().tolist()
            for batch in data.train.training_batches(EpochPlan(**options, augment=a))
        ]
        for a in (Augment(), Augment(shift=0.1))
    ]
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]
    assert sorted(orders[0][0]) == [0] * 8 + [1] * 8
    assert orders[0][0] != sorted(orders[0][0])


def test_image_folders_with_splits(tmp_path, refused):
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


def test_image_mistakes(tmp_path, refused):
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
def test_a_truncated_image_is_named(tmp_path, suffix, refused):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    (tmp_path / "cat").mkdir()
    for number in range(3):
        Image.fromarray(noise).save(tmp_path / "cat" / f"{number}{suffix}")
    bad = tmp_path / "cat" / f"1{suffix}"
    bad.write_bytes(bad.read_bytes()[:2000])
    settings = Data(source="images", path=tmp_path, image_size=(4, 4), evaluation_fraction=0.5)
    refused(settings, f"cannot be read: .*cat/1{suffix}' cannot be decoded")


def test_large_image_folders_stay_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "CACHE_LIMIT_BYTES", 1000)
    assert isinstance(load_data(image_folder(tmp_path), seed=0).train, StreamSplit)
