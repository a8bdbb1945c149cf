from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import CustomImages
from deft_lightning.data.custom import arrays
from deft_lightning.data.custom.labels import recode
from tests.data.custom.files import COUNT, GREY, GRID, factors, folder, pixels, write


def test_without_labels_there_are_no_factors(path):
    dataset = CustomImages(write(path, images=GREY))
    assert dataset.space is None
    assert dataset.factor_names == ()
    assert dataset.factors(torch.arange(3)) is None


@pytest.mark.parametrize("key", arrays.LABEL_KEYS)
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


def test_labels_without_a_full_grid_are_looked_up_by_row(path):
    codes = GRID.copy()
    codes[0] = codes[5]  # one combination twice, one never
    dataset = CustomImages(write(path, images=GREY, labels=codes * 10))
    assert dataset.space is None
    assert dataset.factor_names == ("factor_0", "factor_1", "factor_2")
    assert factors(dataset) == codes.tolist()
    assert dataset.factors(torch.tensor([5, 5, 2])).tolist() == codes[[5, 5, 2]].tolist()
    assert np.array_equal(pixels(dataset), GREY[:, None])
    assert "not a full grid" in dataset.notices[0]


def test_a_column_of_one_value_is_left_out(path):
    codes = np.concatenate([np.full((COUNT, 1), 4), GRID], axis=1)
    dataset = CustomImages(write(path, images=GREY, latents_classes=codes))
    assert dataset.space is not None
    assert dataset.factor_names == ("factor_1", "factor_2", "factor_3")
    assert "factor_0" in dataset.notices[0]
    assert "a single value" in dataset.notices[0]


def test_a_continuous_column_is_binned():
    angle = np.linspace(0, 360, 240, endpoint=False) + 0.5
    labels = recode([angle, np.arange(240) % 2], ["angle", "side"], "labels.csv")
    assert labels.sizes == (20, 2)
    assert labels.values[:, 0].tolist() == [i // 12 for i in range(240)]
    assert labels.notices == (
        "labels.csv: factor angle has 240 different values: it is taken as continuous, in 20 bins of equal width.",
    )


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
def test_a_label_file_replaces_the_labels_in_the_image_file(path, tmp_path, bad):
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


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("labels.csv", 'file,size,kind\na.png,9,"red, big"\nb.png,10,b\nc.png,10,c\n', ("size", "kind")),
        ("labels.csv", "file;size;kind\r\na.png;9;red, big\r\nb.png;10;b\r\nc.png;10;c\r\n", ("size", "kind")),
        (
            "labels.csv",
            '"file";"size";"x, y"\n"a.png";"9";"1, 2"\n"b.png";"10";"b"\n"c.png";"10";"c"\n',
            ("size", "x, y"),
        ),
        ("labels.csv", "file;size;x, y\na.png;9;1\nb.png;10;2\nc.png;10;3\n", ("size", "x, y")),
        ("labels.csv", "file;x,y,z;s\na.png;9;1\nb.png;10;2\nc.png;10;3\n", ("x,y,z", "s")),
        ("labels.csv", "file,a;b;c,s\na.png,9,1\nb.png,10,2\nc.png,10,3\n", ("a;b;c", "s")),
        ("labels.csv", "file\tsize\tkind\na.png\t9\ta, b\nb.png\t10\tb\nc.png\t10\tc;d\n", ("size", "kind")),
        (
            "labels.tsv",
            "file\tsize\tkind;a,b;c,d\na.png\t9\ta, b\nb.png\t10\tb\nc.png\t10\tc\n",
            ("size", "kind;a,b;c,d"),
        ),
        ("labels.csv", "file;size;part\na.png;9,5;1\nb.png;10,25;2\nc.png;10,25;3\n", ("size", "part")),
    ],
)
def test_columns_may_be_separated_by_semicolons_and_tabs(tmp_path, name, text, names):
    folder(tmp_path / "f", {"a.png": GREY[0], "b.png": GREY[1], "c.png": GREY[2]})
    (tmp_path / name).write_text(text, newline="")
    dataset = CustomImages(tmp_path / "f", labels=tmp_path / name)
    assert dataset.factor_names == names
    assert [row[0] for row in factors(dataset)] == [0, 1, 1]  # 9 before 10, and 9,5 before 10,25
    assert len({row[1] for row in factors(dataset)}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size\n1\n2\n3\n", "'size' as its first column: put file there"),
        ("file\na.png\nb.png\nc.png\n", "has no factors"),
        ("file,size\na.png,1\nb.png,2\n", r"no row for c\.png: add one"),
        ("file,size\na.png,1\nb.png,2\nc.png,3\nd.png,1\n", r"row for d\.png, which is not an image"),
        ("file,size\na.png,1\nb.png,2\nc.png,3\na.png,2\n", r"more than one row for a\.png"),
        ("file,size\na.png,1\nb.png\nc.png,3\n", "row 2: .* 2 columns"),
        ("file,size\na.png,1\nb.png,\nc.png,3\n", "row 2: .* 2 columns"),
        ("file,size\na.png,1\nb.png,nan\nc.png,3\n", "missing or infinite"),
        ("file,size,size\na.png,1,1\nb.png,2,1\nc.png,3,1\n", "distinct"),
        ("file,size\n", "is too short: .* one line for each image"),
        ("", "is too short: .* one line for each image"),
        (
            "file,gr\udcf6\udcdfe\na.png,1\n",
            r"cannot be read as CSV \(it is not text in UTF-8\): save it as UTF-8",
        ),
        ("\udc89PNG\r\n\x1a\n" + "\udcff" * 900, r"labels\.csv cannot be read as CSV \(it is not text in UTF-8\)"),
        ("file\x00\x01\x02,size\n" * 9, r"labels\.csv cannot be read as CSV \(it holds binary data\)"),
        ("rubbish" * 900, r"labels\.csv is too short"),
        ("rubbish" * 900 + "\n1\n", r"labels\.csv has 'rubbish.{60,70}\.\.\. as its first column"),
        ('file,size\na.png,"' + "1" * 200_000, r"labels\.csv cannot be read as CSV \(field larger than"),
        ("file;size\na.png;1\nb.png\nc.png;3\n", "row 2: .* 2 columns"),
    ],
)
def test_a_wrong_csv_file_is_one_sentence(tmp_path, text, message):
    folder(tmp_path / "f", {"a.png": GREY[0], "b.png": GREY[1], "c.png": GREY[2]})
    csv = tmp_path / "labels.csv"
    csv.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DeftError, match=message):
        CustomImages(tmp_path / "f", labels=csv)


def test_wrong_label_files_are_one_sentence(tmp_path):
    path = write(tmp_path / "mine.npz", images=GREY)
    with pytest.raises(DeftError, match=r"data\.labels is .*labels\.csv, which is not a file"):
        CustomImages(path, labels=tmp_path / "labels.csv")
    (tmp_path / "labels.txt").touch()
    with pytest.raises(DeftError, match=r"data\.labels is .*labels\.txt: give a \.csv, \.tsv or \.npy"):
        CustomImages(path, labels=tmp_path / "labels.txt")
    for content in (b"\x93NUMPY\x01", b"", b"rubbish", path.read_bytes()):
        (tmp_path / "labels.npy").write_bytes(content)
        with pytest.raises(DeftError, match=r"labels\.npy is damaged or holds Python objects"):
            CustomImages(path, labels=tmp_path / "labels.npy")
    (tmp_path / "labels.csv").write_text("a,b\n1,2\n2,2\n")
    with pytest.raises(DeftError, match="labels for 2 images: give labels for all 12"):
        CustomImages(path, labels=tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": GREY, "labels": GRID[:11]}, "labels for 11 images: give labels for all 12"),
        ({"images": GREY, "labels": GRID[:, :, None]}, r"has labels of int64 \[12, 3, 1\]"),
        ({"images": GREY, "labels": GRID * 1j}, "complex128"),
        ({"images": GREY, "labels": np.array("a string")}, r"has labels of <U8 \[\]: give numbers or strings"),
        ({"images": GREY, "labels": np.array(7)}, r"has labels of int64 \[\]"),
        ({"images": GREY, "labels": GRID, "factor_names": np.array("shape")}, "1 factor names for 3 factors"),
        ({"images": GREY, "labels": GRID[:, :0]}, r"has labels of int64 \[12, 0\]"),
        ({"images": GREY, "labels": np.where(GRID > 1, np.nan, GRID)}, "missing or infinite"),
        ({"images": GREY, "labels": GRID, "factor_names": np.array(["a", "b"])}, "2 factor names for 3 factors"),
        ({"images": GREY, "labels": GRID, "factor_names": np.array(["a", "b", "a"])}, "distinct"),
    ],
)
def test_wrong_labels_are_one_sentence(path, arrays, message):
    with pytest.raises(DeftError, match=message):
        CustomImages(write(path, **arrays))


def test_pickled_labels_are_never_loaded(tmp_path):
    path = write(tmp_path / "mine.npz", images=GREY)
    np.save(tmp_path / "labels.npy", np.array([{}] * COUNT, dtype=object))
    with pytest.raises(DeftError, match="damaged or holds Python objects"):
        CustomImages(path, labels=tmp_path / "labels.npy")


def test_a_group_of_labels_is_not_an_array(tmp_path):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["images"], file["labels/left"] = GREY, GRID
    with pytest.raises(DeftError, match=r"mine\.h5 has a group called labels: store the labels as one array"):
        CustomImages(tmp_path / "mine.h5")
