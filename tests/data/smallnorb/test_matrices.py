"""The binary format of the NORB data sets."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from deft_lightning.common.errors import DeftError
from deft_lightning.data.smallnorb import matrices
from deft_lightning.data.smallnorb.published import CHUNKS
from tests.data.smallnorb.files import Small


def test_the_header_has_type_and_shape(root):
    assert matrices.header(root / "smallnorb" / f"{CHUNKS[0]}-dat.mat") == (np.uint8, (48, 2, 96, 96))
    assert matrices.header(root / "smallnorb" / f"{CHUNKS[0]}-cat.mat") == (np.int32, (48,))


def test_a_longer_file_is_noticed(root):
    path = root / "smallnorb" / f"{CHUNKS[0]}-cat.mat"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DeftError, match="longer than its header says"):
        Small(root)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (struct.pack("<Ii3i", 0x1E3D4C51, 1, 48, 1, 1), "begins with 0x1e3d4c51"),  # floats
        (b"<!DOCTYPE html><html>not found</html>", "begins with"),
        (struct.pack("<Ii3i", 0x1E3D4C54, 900, 1, 1, 1), "has 900 dimensions"),
        (struct.pack("<Ii3i", 0x1E3D4C54, 1, -4, 1, 1), r"has the shape \[-4\]"),
    ],
)
def test_a_wrong_header_is_one_sentence(root, head, message):
    path = root / "smallnorb" / f"{CHUNKS[0]}-cat.mat"
    path.write_bytes(head + path.read_bytes()[20:])
    with pytest.raises(DeftError, match=message):
        Small(root)


def test_a_file_that_may_not_be_read_is_one_sentence(root):
    path = root / "smallnorb" / "folder.mat"
    path.mkdir()
    with pytest.raises(DeftError, match=r"folder\.mat cannot be read"):
        matrices.header(path)
    with pytest.raises(DeftError, match="none is missing"):
        matrices.header(path / "none")
