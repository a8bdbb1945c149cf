from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data import registry
from deft_lightning.data.custom import images as custom_images
from deft_lightning.data.custom.dataset import CustomImages

RANDOM = torch.Generator()
COUNT = 12
GREY = (np.arange(COUNT, dtype=np.uint8) * 20)[:, None, None] * np.ones((1, 64, 64), np.uint8)
GRID = np.stack(np.unravel_index(np.arange(COUNT), (3, 2, 2)), axis=1)  # [12, 3]


def write(path: Path, **arrays: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array.tolist() if array.dtype.kind == "U" else array  # HDF5 has its own strings
    return path


def pixels(dataset: CustomImages) -> np.ndarray:
    return dataset.images(torch.arange(len(dataset)), RANDOM).mul(255).round().numpy().astype(int)


def factors(dataset: CustomImages) -> list[list[int]]:
    values = dataset.factors(torch.arange(len(dataset)))
    assert values is not None
    assert values.dtype == torch.int64
    return values.tolist()


def folder(path: Path, images: dict[str, np.ndarray]) -> Path:
    for name, image in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / name)
    return path


@pytest.fixture(params=[".npz", ".h5", ".hdf5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"own{request.param}"


# Images


@pytest.mark.parametrize("key", custom_images.IMAGE_KEYS)
@pytest.mark.parametrize("block", [5, 1024])
def test_grey_arrays_are_taken_as_they_are(path, key, block, monkeypatch):
    monkeypatch.setattr(custom_images, "_BLOCK", block)  # blocks that do and do not divide the images
    dataset = CustomImages(write(path, **{key: GREY}))
    assert dataset.shape == (1, 64, 64)
    assert dataset.notices == ()
    assert dataset.provenance == {"source": "file", "path": str(path), "digest": dataset.digest}
    images = dataset.images(torch.tensor([3, 0]), RANDOM)
    assert images.dtype == torch.float32
    assert np.array_equal(pixels(dataset), GREY[:, None])


@pytest.mark.parametrize("axis", [1, 3])
def test_colour_arrays_may_have_their_channels_first_or_last(path, axis):
    colour = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 64, 64), np.uint8)
    dataset = CustomImages(write(path, images=np.moveaxis(colour, 1, axis)))
    assert dataset.shape == (3, 64, 64)
    assert np.array_equal(pixels(dataset), colour)


@pytest.mark.parametrize(
    ("array", "expected", "notice"),
    [
        (GREY / np.float32(255), GREY, "256 steps"),
        (GREY.astype(np.int64), GREY, None),
        (GREY > 100, (GREY > 100) * 255, None),
        ((GREY > 100).astype(np.uint8), (GREY > 100) * 255, "black and white"),
    ],
)
def test_every_type_of_pixel_is_brought_to_bytes(path, array, expected, notice):
    dataset = CustomImages(write(path, images=array))
    assert np.array_equal(pixels(dataset), expected[:, None])
    assert [notice in sentence for sentence in dataset.notices] == ([True] if notice else [])


def test_other_sizes_are_resized_without_aliasing_and_said(path):
    stripes = np.zeros((COUNT, 128, 256), np.uint8)
    stripes[:, :, ::2] = 200  # finer than 64 pixels can show: grey
    dataset = CustomImages(write(path, images=stripes))
    assert dataset.shape == (1, 64, 64)
    assert np.abs(pixels(dataset) - 100).max() <= 8
    assert dataset.notices == (f"{path}: images of 256 x 128 are resized to 64 x 64.",)
    assert CustomImages(path, image_size="32").shape == (1, 32, 32)  # a string, as from the command line


def test_channels_can_be_asked_for(path):
    colour = np.stack([GREY, GREY, GREY], axis=3)
    write(path, images=colour)
    grey = CustomImages(path, channels=1)
    assert np.array_equal(pixels(grey), GREY[:, None])
    assert grey.notices == (f"{path}: images are converted to grey.",)
    write(path, images=GREY)
    assert np.array_equal(pixels(CustomImages(path, channels=3)), colour.transpose(0, 3, 1, 2))


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    names = ["b.png", "a/2.png", "a/10.PNG", ".hidden.png"]
    folder(tmp_path, {name: GREY[place] for place, name in enumerate(names)})
    (tmp_path / "notes.txt").write_text("no image")
    dataset = CustomImages(tmp_path)
    assert dataset.shape == (1, 64, 64)
    assert pixels(dataset)[:, 0, 0, 0].tolist() == [40, 20, 0]  # a/10.PNG, a/2.png, b.png


def test_pictures_of_any_size_and_type_become_one(tmp_path):
    colour = np.full((30, 50, 3), (10, 20, 30), np.uint8)
    clear = np.full((64, 64, 4), (70, 80, 90, 5), np.uint8)
    deep = np.full((64, 64), 257 * 100, np.uint16)
    folder(tmp_path, {"a.png": GREY[3], "b.png": colour, "c.png": clear, "d.png": deep})
    dataset = CustomImages(tmp_path)
    assert pixels(dataset)[:, :, 5, 5].tolist() == [[60] * 3, [10, 20, 30], [70, 80, 90], [100] * 3]
    assert dataset.notices == (
        f"{tmp_path}: images of type I;16, RGBA are converted to 8 bits a channel without transparency.",
        f"{tmp_path}: images of different sizes are resized to 64 x 64.",
    )


def test_a_photograph_is_turned_upright(tmp_path):
    picture = np.zeros((64, 64), np.uint8)
    picture[:32] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(CustomImages(tmp_path))[0, 0], picture[::-1])


def test_one_image_is_a_data_set(path):
    dataset = CustomImages(write(path, images=GREY[:1], factors=GRID[:1]))
    assert len(dataset) == 1
    assert dataset.factor_names == ()


def test_the_digest_is_that_of_pixels_and_labels(path):
    def digest(images: np.ndarray = GREY, factors: np.ndarray = GRID) -> str:
        return CustomImages(write(path, images=images, factors=factors)).provenance["digest"]

    first, other = digest(), GREY.copy()
    other[7, 3, 3] += 1
    assert len(first) == 16
    assert digest(GREY[::-1], GRID[::-1]) == first  # the grid puts them in the same order
    assert len({first, digest(other), digest(factors=GRID[:, ::-1]), digest(factors=GRID // 2)}) == 4
    assert CustomImages(path, channels=3).digest != CustomImages(path).digest


# Labels


def test_without_labels_there_are_no_factors(path):
    dataset = CustomImages(write(path, images=GREY))
    assert dataset.space is None
    assert dataset.factor_names == ()
    assert dataset.factors(torch.arange(3)) is None


@pytest.mark.parametrize("key", custom_images.LABEL_KEYS)
@pytest.mark.parametrize("codes", [GRID, GRID * 7 - 3, GRID * 0.25, np.array(["p", "q", "r"])[GRID]])
def test_a_full_grid_in_any_order_becomes_the_space(path, key, codes):
    order = np.random.default_rng(0).permutation(COUNT)
    write(path, images=GREY[order], factor_names=np.array(["shape", "x", "y"]), **{key: codes[order]})
    dataset = CustomImages(path)
    assert dataset.space is not None
    assert (dataset.space.names, dataset.space.sizes) == (("shape", "x", "y"), (3, 2, 2))
    assert dataset.factor_names == ("shape", "x", "y")
    assert np.array_equal(pixels(dataset), GREY[:, None])  # images in the order of the grid
    assert factors(dataset) == GRID.tolist()
    assert dataset.notices == ()


def test_labels_that_are_no_grid_are_looked_up_by_row(path):
    codes = GRID.copy()
    codes[0] = codes[5]  # one combination twice, one never
    dataset = CustomImages(write(path, images=GREY, labels=codes * 10))
    assert dataset.space is None
    assert dataset.factor_names == ("factor_0", "factor_1", "factor_2")
    assert factors(dataset) == codes.tolist()
    assert dataset.factors(torch.tensor([5, 5, 2])).tolist() == codes[[5, 5, 2]].tolist()
    assert np.array_equal(pixels(dataset), GREY[:, None])
    assert "no full grid" in dataset.notices[0]


def test_a_column_of_one_value_is_left_out(path):
    codes = np.concatenate([np.full((COUNT, 1), 4), GRID], axis=1)
    dataset = CustomImages(write(path, images=GREY, latents_classes=codes))
    assert dataset.space is not None
    assert dataset.factor_names == ("factor_1", "factor_2", "factor_3")
    assert "factor_0" in dataset.notices[0]
    assert "one value only" in dataset.notices[0]


def test_a_single_factor_may_be_a_plain_row(path):
    assert factors(CustomImages(write(path, images=GREY, labels=np.arange(COUNT)[::-1] % 3))) == [
        [2 - i % 3] for i in range(COUNT)
    ]


def test_a_csv_file_names_the_factors_and_numbers_sort_as_numbers(path, tmp_path):
    rows = [f"{['red', 'blue'][i % 2]}, {[9, 10, 100][i % 3]}, {i // 6}" for i in range(COUNT)]
    csv = tmp_path / "labels.csv"
    csv.write_text("\ufeffcolour,size,part\n" + "\n".join(rows) + "\n\n", encoding="utf-8")
    dataset = CustomImages(write(path, images=GREY, factors=GRID), labels=csv)
    assert dataset.factor_names == ("colour", "size", "part")
    assert dataset.space is not None
    order = np.lexsort(
        ([i // 6 for i in range(COUNT)], [i % 3 for i in range(COUNT)], [1 - i % 2 for i in range(COUNT)])
    )
    assert np.array_equal(pixels(dataset), GREY[order][:, None])


@pytest.mark.parametrize("bad", [GRID[:5], GRID * 1j, np.array(["one string"]), np.full(GRID.shape, np.nan)])
def test_a_label_file_comes_before_whatever_is_in_the_image_file(path, tmp_path, bad):
    np.save(tmp_path / "labels.npy", GRID)
    write(path, images=GREY, factors=bad, factor_names=np.array(["a"]))
    with pytest.raises(DeftError):
        CustomImages(path)
    assert factors(CustomImages(path, labels=tmp_path / "labels.npy")) == GRID.tolist()


def test_an_npy_file_has_labels(path, tmp_path):
    np.save(tmp_path / "labels.npy", GRID[::-1])
    dataset = CustomImages(write(path, images=GREY), labels=tmp_path / "labels.npy")
    assert np.array_equal(pixels(dataset), GREY[::-1][:, None])
    assert factors(dataset) == GRID.tolist()


def test_the_csv_of_a_folder_names_its_files_in_any_order(tmp_path):
    folder(tmp_path / "f", {"a.png": GREY[0], "b.png": GREY[1], "c/d.png": GREY[2]})
    csv = tmp_path / "labels.csv"
    csv.write_text("file,size\nc/d.png,1\na.png,3\nb.png,2\n")
    dataset = CustomImages(tmp_path / "f", labels=csv)
    assert dataset.factor_names == ("size",)
    assert dataset.space is not None
    assert pixels(dataset)[:, 0, 0, 0].tolist() == [40, 20, 0]


# Mistakes


@pytest.mark.parametrize("keep", [0, 3, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_one_sentence(path, keep):
    # The one array comes last in the file, so that every cut takes some of it.
    whole = write(path, images=np.random.default_rng(0).integers(0, 256, GREY.shape, np.uint8)).read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=rf"{path.name} cannot be read: it is damaged"):
        CustomImages(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": GREY}, "key should be images or imgs, and it has pictures"),
        ({"images": GREY[:, 0, 0]}, r"uint8 \[12\], and should be"),
        ({"images": GREY[0]}, r"uint8 \[64, 64\], and should be"),
        ({"images": GREY[:0]}, r"uint8 \[0, 64, 64\], and should be"),
        ({"images": np.stack([GREY] * 4, axis=3)}, r"uint8 \[12, 64, 64, 4\].*1 or 3 channels"),
        ({"images": GREY.astype(complex)}, "complex128"),
        ({"images": GREY.astype(np.int16) * 2}, "from 0 to 440, and int16 pixels should be in 0 to 255"),
        ({"images": GREY.astype(np.int16) - 1}, "from -1 to 219"),
        ({"images": GREY.astype(np.float32)}, "from 0 to 220, and float32 pixels should be in 0 to 1"),
        ({"images": np.full((2, 64, 64), np.nan)}, "from nan to nan"),
        ({"images": GREY, "labels": GRID[:11]}, "labels for 11 images, but there are 12"),
        ({"images": GREY, "labels": GRID[:, :, None]}, r"labels in .* are int64 \[12, 3, 1\]"),
        ({"images": GREY, "labels": GRID * 1j}, "complex128"),
        ({"images": GREY, "labels": np.array("a string")}, r"labels in .* are <U8 \[\], and should be"),
        ({"images": GREY, "labels": np.array(7)}, r"labels in .* are int64 \[\]"),
        ({"images": GREY, "labels": GRID, "factor_names": np.array("shape")}, "1 factor names for 3 factors"),
        ({"images": np.array("a string")}, r"the images in .* \[\], and should be numbers"),
        ({"images": GREY, "labels": GRID[:, :0]}, r"int64 \[12, 0\]"),
        ({"images": GREY, "labels": np.where(GRID > 1, np.nan, GRID)}, "missing or infinite"),
        ({"images": GREY, "labels": GRID, "factor_names": np.array(["a", "b"])}, "2 factor names for 3 factors"),
        ({"images": GREY, "labels": GRID, "factor_names": np.array(["a", "b", "a"])}, "distinct"),
    ],
)
def test_wrong_contents_are_one_sentence(path, arrays, message):
    with pytest.raises(DeftError, match=message):
        CustomImages(write(path, **arrays))


def test_pickled_objects_are_never_loaded(tmp_path):
    path = write(tmp_path / "own.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DeftError, match="Python objects, which are never loaded"):
        CustomImages(path)
    np.save(tmp_path / "labels.npy", np.array([{}] * COUNT, dtype=object))
    with pytest.raises(DeftError, match="damaged or holds objects"):
        CustomImages(write(path, images=GREY), labels=tmp_path / "labels.npy")


def test_a_file_under_a_false_name_is_one_sentence(path, tmp_path):
    with open(path, "wb") as file:
        np.save(file, GREY)
    with pytest.raises(DeftError, match="damaged, not written to its end or of another format"):
        CustomImages(path)


def test_a_group_is_not_an_array(tmp_path):
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file["images/left"] = GREY
    with pytest.raises(DeftError, match=r"images in .* should be an array"):
        CustomImages(tmp_path / "own.h5")
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file["images"], file["labels/left"] = GREY, GRID
    with pytest.raises(DeftError, match=r"labels in .* should be an array, not a group"):
        CustomImages(tmp_path / "own.h5")


def test_a_wrong_path_is_one_sentence(tmp_path):
    with pytest.raises(DeftError, match=r"data\.path should say where the images are"):
        CustomImages(None)
    with pytest.raises(DeftError, match="no such file or folder"):
        CustomImages(tmp_path / "none.npz")
    (tmp_path / "own.mat").touch()
    with pytest.raises(DeftError, match=r"should be an \.npz or \.h5 file or a folder"):
        CustomImages(tmp_path / "own.mat")
    with pytest.raises(DeftError, match="path"):
        registry.load("custom")


def test_a_folder_without_images_is_one_sentence(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DeftError, match="there are no images in the folder"):
        CustomImages(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 0.6])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_an_unreadable_picture_is_named(tmp_path, ending, keep):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    folder(tmp_path, {f"a.{ending}": GREY[0], f"b.{ending}": noise})
    path = tmp_path / f"b.{ending}"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=rf"b\.{ending} cannot be read as an image"):
        CustomImages(tmp_path)


def test_pixels_of_32_bits_have_no_known_range(tmp_path):
    folder(tmp_path, {"a.tif": GREY[0].astype(np.float32)})
    with pytest.raises(DeftError, match=r"a\.tif has 32 bits a pixel"):
        CustomImages(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size\n1\n2\n3\n", "should be called file"),
        ("file\na.png\nb.png\nc.png\n", "has no factors"),
        ("file,size\na.png,1\nb.png,2\n", r"no row for c\.png, one of 1 images"),
        ("file,size\na.png,1\nb.png,2\nc.png,3\nd.png,1\n", r"row for d\.png, which is not an image"),
        ("file,size\na.png,1\nb.png,2\nc.png,3\na.png,2\n", r"more than one row for a\.png"),
        ("file,size\na.png,1\nb.png\nc.png,3\n", "row 2 .* 2 columns"),
        ("file,size\na.png,1\nb.png,\nc.png,3\n", "row 2 .* 2 columns"),
        ("file,size\na.png,1\nb.png,nan\nc.png,3\n", "missing or infinite"),
        ("file,size,size\na.png,1,1\nb.png,2,1\nc.png,3,1\n", "distinct"),
        ("file,size\n", "one line for each image"),
        ("", "one line for each image"),
        ("file,gr\udcf6\udcdfe\na.png,1\n", "cannot be read as CSV text"),
    ],
)
def test_a_wrong_csv_file_is_one_sentence(tmp_path, text, message):
    folder(tmp_path / "f", {"a.png": GREY[0], "b.png": GREY[1], "c.png": GREY[2]})
    csv = tmp_path / "labels.csv"
    csv.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DeftError, match=message):
        CustomImages(tmp_path / "f", labels=csv)


def test_wrong_label_files_are_one_sentence(tmp_path):
    path = write(tmp_path / "own.npz", images=GREY)
    with pytest.raises(DeftError, match=r"there is no file .*labels"):
        CustomImages(path, labels=tmp_path / "labels.csv")
    (tmp_path / "labels.txt").touch()
    with pytest.raises(DeftError, match=r"should be a \.csv or an \.npy"):
        CustomImages(path, labels=tmp_path / "labels.txt")
    (tmp_path / "labels.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(DeftError, match="damaged or holds objects"):
        CustomImages(path, labels=tmp_path / "labels.npy")
    (tmp_path / "labels.csv").write_text("a,b\n1,2\n2,2\n")
    with pytest.raises(DeftError, match="labels for 2 images, but there are 12"):
        CustomImages(path, labels=tmp_path / "labels.csv")


@pytest.mark.parametrize(
    "options", [{"image_size": 0}, {"image_size": "big"}, {"image_size": 6.5}, {"channels": 2}, {"channels": 0}]
)
def test_wrong_options_are_one_sentence(path, options):
    with pytest.raises(DeftError, match=rf"data\.{next(iter(options))} is "):
        CustomImages(write(path, images=GREY), **options)
