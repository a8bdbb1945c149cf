"""Images that stay on disk, mapped into memory: which images, on which device, at what cost in memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from deft_lightning.data import Batch, FactorDataModule, FactorSpace, cache
from deft_lightning.data.base import MappedImages
from tests.data.test_memory import draw, kilobytes
from tests.helpers import TinySprites

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)


class Mapped(MappedImages):
    name, source, shape = "mapped", "file", (3, 64, 64)
    space = FactorSpace(("a", "b"), (5, 8))

    def __init__(self, pixels: np.ndarray = PIXELS) -> None:
        self._pixels = pixels


def in_cache(path: Path, build=lambda: {"images": PIXELS}) -> cache.Prepared:
    return cache.load_or_build(path, build, kind="tiny", version=1, mapped=True)


def test_images_are_the_rows_of_the_file_in_any_order(tmp_path):
    dataset = Mapped(in_cache(tmp_path / "tiny.h5").arrays["images"])
    indices = torch.tensor([7, 0, 39, 7])
    images = dataset.images(indices, torch.Generator())
    assert images.dtype == torch.float32
    assert torch.equal(images, torch.from_numpy(PIXELS[indices].transpose(0, 3, 1, 2)).float() / 255)
    images.zero_()  # a batch may be overwritten, and the data set stays as it is
    again = dataset.images(indices, torch.Generator())
    assert torch.equal(again[1], torch.from_numpy(PIXELS[0]).permute(2, 0, 1) / 255)


def test_a_mapped_cache_is_read_only_and_knows_the_digest_of_its_arrays(tmp_path):
    first = in_cache(tmp_path / "tiny.h5")
    again = in_cache(tmp_path / "tiny.h5", lambda: pytest.fail("the cache was good and must not be rebuilt"))
    assert again.digest == first.digest == cache.digest({"images": PIXELS})
    assert np.array_equal(again.arrays["images"], PIXELS)
    with pytest.raises(ValueError, match="read-only"):
        again.arrays["images"][0] = 0


@pytest.mark.parametrize("keep", [0, 700, 0.3, 0.9999])
def test_a_mapped_cache_that_was_cut_short_is_rebuilt(tmp_path, keep, caplog):
    path = tmp_path / "tiny.h5"
    in_cache(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    assert np.array_equal(in_cache(path).arrays["images"], PIXELS)
    assert "is rebuilt: it is damaged or incomplete" in caplog.text


@pytest.mark.parametrize("layout", [{"chunks": (4, 64, 64, 3)}, {"chunks": (4, 64, 64, 3), "compression": "gzip"}])
def test_an_array_that_is_not_in_one_piece_is_not_mapped(tmp_path, layout):
    path = tmp_path / "tiny.h5"
    in_cache(path)
    with h5py.File(path, "r+") as file:
        del file["images"]
        file.create_dataset("images", data=PIXELS, **layout)
    with pytest.raises(cache.StaleCacheError):
        cache.read(path, kind="tiny", version=1, mapped=True)


def test_only_batches_move_to_another_device():
    """The device "meta" stands for an accelerator: what is on it has no values."""
    dataset = Mapped()
    assert dataset.to("meta") is dataset
    images = dataset.images(torch.arange(6), torch.Generator())
    assert (images.device.type, images.shape) == ("meta", (6, 3, 64, 64))
    assert dataset.to("cpu").images(torch.arange(6), torch.Generator()).sum() > 0  # it has kept its pixels


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_batch_on_a_gpu_has_the_pixels_of_the_map():
    data = FactorDataModule(Mapped(), batch_size=8)
    for step in range(50):  # batches one after the other reuse pinned memory
        batch = Batch(torch.arange(8) + step % 32, step)
        images = data.transfer_batch_to_device(batch, torch.device("cuda", 0), 0)
        assert images.device.type == "cuda"
        assert torch.equal(images.cpu(), Mapped().images(batch.indices, torch.Generator()))


@pytest.mark.parametrize("dataset", [Mapped(), TinySprites(3)], ids=["on the host", "on the device"])
def test_indices_stay_on_the_host_where_the_images_are(dataset, monkeypatch):
    seen = []
    monkeypatch.setattr(FactorDataModule, "_images", lambda _, batch, device: seen.append((batch, device)))
    data = FactorDataModule(dataset, batch_size=8)
    batch = data.transfer_batch_to_device(Batch(torch.arange(8), 5), torch.device("meta"), 0)
    data.on_after_batch_transfer(batch, 0)
    ((made, device),) = seen
    assert device.type == "meta"
    assert (made.step, made.indices.device.type) == (5, "cpu" if dataset.on_host else "meta")


def test_a_batch_is_the_same_by_either_way():
    data = FactorDataModule(Mapped(), batch_size=8)
    batch = Batch(torch.tensor([3, 1, 38, 0]), 2, rank=1, world_size=2)
    moved = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, torch.device("cpu"), 0), 0)
    assert torch.equal(moved, data.on_after_batch_transfer(batch, 0))
    assert torch.equal(moved, Mapped().images(torch.tensor([38, 0]), torch.Generator()))


COUNT, BLOCK = 20_000, 2_000  # images: 246 MB in all, 25 MB at a time


def measure(path: Path) -> tuple[float, float]:
    """MB by which a process grows at most when it builds the file, and of its own when it has drawn batches from it."""

    def rows() -> Iterator[np.ndarray]:
        for start in range(0, COUNT, BLOCK):
            yield np.full((BLOCK, 64, 64, 3), start // BLOCK, np.uint8)

    torch.set_num_threads(1)
    in_cache(path.with_name("small.h5"))
    draw(FactorDataModule(TinySprites(3)))
    blocks = cache.Blocks((COUNT, 64, 64, 3), np.dtype(np.uint8), rows(), "Writing")
    resident, own = kilobytes("VmRSS"), kilobytes("RssAnon")
    images = in_cache(path, lambda: {"images": blocks}).arrays["images"]
    peak = kilobytes("VmHWM") - resident
    draw(FactorDataModule(Mapped(images)))
    return peak * 1024 / 1e6, (kilobytes("RssAnon") - own) * 1024 / 1e6


@pytest.mark.slow  # writes 246 MB
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_neither_building_nor_drawing_takes_the_memory_of_the_images(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        building, drawing = executor.submit(measure, tmp_path / "large.h5").result()
    assert building < 100
    assert drawing < 20
