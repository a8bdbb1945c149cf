"""What all of a data set takes in memory, made for the first time and read from the cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from deft_lightning.data.dsprites import published as official
from deft_lightning.data.dsprites import renderer
from deft_lightning.data.smallnorb import dataset
from tests.data.smallnorb.test_dataset import matrix

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")

CODE = """
import sys, numpy as np, torch
from pathlib import Path
from deft_lightning.data import FactorDataModule, cache, norb_renderer, official, registry, sprites
from tests.helpers import TinySprites

name, source, root, scratch = sys.argv[1:]

def kilobytes(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1])

def use(datamodule):
    for batch, _ in zip(datamodule.train_dataloader(), range(20)):
        datamodule.on_after_batch_transfer(batch, 0)

torch.set_num_threads(1)
# The same code on next to no data: what the libraries take is not ours.
renderer.render(0, 0, 0)
norb_renderer.render(0, 0, [0], [0], [0])
for _ in range(2):
    cache.load_or_build(Path(scratch) / "small.h5", lambda: {"images": np.zeros(9)}, kind="small", version=1)
use(FactorDataModule(TinySprites(3)))
official.MD5 = None  # of a file that is written here
before = kilobytes("VmRSS")
use(FactorDataModule(lambda: registry.load(name, root=root, source=source)))
print((kilobytes("VmHWM") - before) * 1024 / 1e6)
"""


def growth(name: str, source: str, root: Path, scratch: Path) -> float:
    """By how many MB the process grows at most, batches and epoch order included."""
    result = subprocess.run(
        [sys.executable, "-c", CODE, name, source, root, scratch],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return float(result.stdout)


def write_dsprites(root: Path) -> None:
    """The published layout at full size; the images are empty and take no space in the file."""
    factors = renderer.SPACE.factors(torch.arange(len(renderer.SPACE))).numpy()
    classes = np.concatenate([np.zeros((len(factors), 1), np.int64), factors], axis=1)
    with h5py.File(root / f"{official.STEM}.hdf5", "w") as file:
        file.create_dataset("imgs", (len(classes), 64, 64), np.uint8, chunks=(4096, 8, 8), compression="gzip")
        file["latents/classes"], file["latents/values"] = classes, classes * 1.0


def write_smallnorb(root: Path) -> None:
    """The published layout at full size; the pixels are holes in the file."""
    folder = root / dataset.FOLDER
    folder.mkdir()
    factors = np.stack(np.unravel_index(np.arange(len(dataset.SPACE)), dataset.SPACE.sizes), axis=1)
    for chunk, instances in zip(dataset.CHUNKS, ((4, 6, 7, 8, 9), (0, 1, 2, 3, 5)), strict=True):
        mine = factors[np.isin(factors[:, 1], instances)].astype("<i4")
        (folder / f"{chunk}-cat.mat").write_bytes(matrix(mine[:, 0].copy()))
        (folder / f"{chunk}-info.mat").write_bytes(matrix(mine[:, 1:] * np.array([1, 1, 2, 1], "<i4")))
        with open(folder / f"{chunk}-dat.mat", "wb") as file:
            file.write(matrix(np.zeros((0, 2, 96, 96), np.uint8))[:8])
            file.write(np.array([len(mine), 2, 96, 96], "<i4").tobytes())
            file.truncate(8 + 16 + len(mine) * 2 * 96 * 96)


def test_rendered_dsprites_from_the_cache(dsprites_root, tmp_path):
    assert growth("color_dsprites", "rendered", dsprites_root, tmp_path) <= 400


# Slow: all of a set is rendered or converted.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source", "size", "limit"),
    [
        ("color_dsprites", "rendered", 377, 400),
        ("color_dsprites", "official", 377, 400),
        ("smallnorb", "rendered", 199, 250),
        ("smallnorb", "official", 199, 250),
    ],
)
def test_the_first_run_takes_no_more_than_later_ones_may(name, source, size, limit, tmp_path):
    if source == "official":
        {"color_dsprites": write_dsprites, "smallnorb": write_smallnorb}[name](tmp_path)
    for _ in ("cold", "warm"):
        assert 0.95 * size < growth(name, source, tmp_path, tmp_path) <= limit
