"""The memory that a whole data set takes when it is prepared and when it is read from the cache."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from deft_lightning.data import FactorDataModule, cache, registry
from deft_lightning.data.dsprites import published as dsprites
from deft_lightning.data.dsprites import renderer as sprites
from deft_lightning.data.smallnorb import published as smallnorb
from deft_lightning.data.smallnorb import renderer as toys
from tests.data.smallnorb.files import matrix
from tests.helpers import TinySprites

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")


def growth(name: str, source: str, root: Path, scratch: Path) -> float:
    """The most by which a process grows, in MB, when it loads a data set and draws batches from it.

    A new process for every call, forked from one that has imported everything and done nothing else.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(measure, name, source, root, scratch).result()


def measure(name: str, source: str, root: Path, scratch: Path) -> float:
    torch.set_num_threads(1)
    # The same code on very little data first: the memory of the libraries does not count.
    sprites.render(0, 0, 0)
    toys.render(0, 0, [0], [0], [0])
    for _ in range(2):
        cache.load_or_build(scratch / "small.h5", lambda: {"images": np.zeros(9)}, kind="small", version=1)
    draw(FactorDataModule(TinySprites(3)))
    dsprites.MD5 = None  # of a file that a test writes
    # Rendering takes most of the time, and the same memory for every block: some blocks are rendered and then repeated.
    sprites.blocks = lambda: repeated((sprites.render(*place, 13) for place in np.ndindex(3, 6)), 40)
    toys.blocks = lambda _: repeated((toys.render(kind, 0).reshape(-1, 64, 64) for kind in range(5)), 10)
    before = kilobytes("VmRSS")
    draw(FactorDataModule(registry.load(name, root=root, source=source)))
    return (kilobytes("VmHWM") - before) * 1024 / 1e6


def repeated(blocks: Iterable[np.ndarray], times: int) -> Iterator[np.ndarray]:
    for block in blocks:
        for _ in range(times):
            yield block.copy()


def kilobytes(key: str) -> int:
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(key)).split()[1])


def draw(data: FactorDataModule) -> None:
    for batch in islice(data.train_dataloader(), 20):
        data.on_after_batch_transfer(batch, 0)


def write_dsprites(root: Path) -> None:
    """The published file at full size, with empty images that take no space in the file."""
    factors = sprites.SPACE.factors(torch.arange(len(sprites.SPACE))).numpy()
    classes = np.concatenate([np.zeros((len(factors), 1), np.int64), factors], axis=1)
    with h5py.File(root / f"{dsprites.STEM}.hdf5", "w") as file:
        file.create_dataset("imgs", (len(classes), 64, 64), np.uint8, chunks=(4096, 8, 8), compression="gzip")
        file["latents/classes"], file["latents/values"] = classes, classes * 1.0


def write_smallnorb(root: Path) -> None:
    """The published files at full size, with images that are holes in the file."""
    folder = root / smallnorb.FOLDER
    folder.mkdir()
    factors = np.stack(np.unravel_index(np.arange(len(toys.SPACE)), toys.SPACE.sizes), axis=1)
    for chunk, instances in zip(smallnorb.CHUNKS, ((4, 6, 7, 8, 9), (0, 1, 2, 3, 5)), strict=True):
        mine = factors[np.isin(factors[:, 1], instances)].astype("<i4")
        (folder / f"{chunk}-cat.mat").write_bytes(matrix(mine[:, 0].copy()))
        (folder / f"{chunk}-info.mat").write_bytes(matrix(mine[:, 1:] * np.array([1, 1, 2, 1], "<i4")))
        with open(folder / f"{chunk}-dat.mat", "wb") as file:
            file.write(matrix(np.zeros((0, 2, 96, 96), np.uint8))[:8])
            file.write(np.array([len(mine), 2, 96, 96], "<i4").tobytes())
            file.truncate(8 + 16 + len(mine) * 2 * 96 * 96)


@pytest.mark.acceptance  # all of a data set, hundreds of megabytes, is written, read and checked
@pytest.mark.parametrize(
    ("name", "source", "size", "limit"),
    [
        ("color_dsprites", "rendered", 377, 400),
        ("color_dsprites", "published", 377, 400),
        ("smallnorb", "rendered", 199, 250),
        ("smallnorb", "published", 199, 250),
    ],
)
def test_the_first_run_takes_no_more_memory_than_later_ones_may(name, source, size, limit, tmp_path):
    if source == "published":
        {"color_dsprites": write_dsprites, "smallnorb": write_smallnorb}[name](tmp_path)
    for _ in ("cold", "warm"):
        assert 0.95 * size < growth(name, source, tmp_path, tmp_path) <= limit


# Slow: all of dSprites is rendered.
@pytest.mark.slow
def test_rendered_dsprites_from_the_cache(dsprites_root, tmp_path):
    assert growth("color_dsprites", "rendered", dsprites_root, tmp_path) <= 400
