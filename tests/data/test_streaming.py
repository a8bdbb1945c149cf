"""Images that are decoded as the training goes: equal to those in memory, whatever decodes them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.data import Batch, CustomImages, FactorDataModule, streaming
from deft_lightning.data.spectrum import spectrum_of
from deft_lightning.data.streaming import StreamLoader, keys
from deft_lightning.data.torch_images import TorchImages
from tests.docs.pages import ROOT
from tests.helpers import TinySprites

PIXELS = (TinySprites().images(torch.arange(96), torch.Generator())[:, 0].numpy() * 255).astype(np.uint8)
FACTORS = TinySprites.space.factors(torch.arange(96))


class Sprites(torch.utils.data.Dataset):
    """TinySprites as an ordinary Dataset, each image as `kind`; `noisy` transforms draw from all three generators."""

    factor_names = ("shape", "scale", "posX", "posY")

    def __init__(self, kind: str = "float", labels: bool = True, noisy: bool = False) -> None:
        self.kind, self.labels, self.noisy = kind, labels, noisy
        if not labels:
            self.factor_names = ()

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int):
        pixels = PIXELS[index]
        image = {
            "float": lambda: torch.from_numpy(pixels)[None].float() / 255,
            "uint8": lambda: torch.from_numpy(pixels)[None],
            "PIL": lambda: Image.fromarray(pixels),
            "bits": lambda: Image.fromarray(pixels).convert("1"),
            "array": lambda: pixels[..., None],
            "matrix": lambda: pixels,
        }[self.kind]()
        if self.noisy:
            noise = torch.rand(1, 64, 64) * 0.1 + np.random.rand() * 0.1 + random.random() * 0.1  # noqa: NPY002
            image = (image * 0.7 + noise).clamp(0, 1)
        return (image, FACTORS[index]) if self.labels else image


def steps(data: FactorDataModule, count: int) -> list[tuple[int, Tensor]]:
    """Step and images of the next `count` training batches."""
    loader, found = data.train_dataloader(), []
    while len(found) < count:
        found += [(b.step, data._images(b, torch.device("cpu"))) for b in islice(loader, count - len(found))]
    return found


def equal(ours: list[tuple[int, Tensor]], theirs: list[tuple[int, Tensor]]) -> bool:
    return [s for s, _ in ours] == [s for s, _ in theirs] and all(
        torch.equal(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sprites as PNG files under names in another order, with labels on a full grid."""
    path = tmp_path_factory.mktemp("sprites")
    order = np.random.default_rng(0).permutation(96)
    lines = ["file,shape,scale,posX,posY"]
    for number, index in enumerate(order):
        Image.fromarray(PIXELS[index]).save(path / f"{number:03d}.png")
        lines.append(f"{number:03d}.png," + ",".join(map(str, FACTORS[index].tolist())))
    (path / "labels.csv").write_text("\n".join(lines))
    return path


def custom(folder: Path, in_memory: bool | None, **options) -> CustomImages:
    return CustomImages(folder, folder / "labels.csv", in_memory=in_memory, **options)


# --- A folder ---


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_folder_gives_the_batches_of_one_in_memory(folder: Path, workers: int) -> None:
    whole = FactorDataModule(custom(folder, True), 16, seed=3)
    streamed = FactorDataModule(custom(folder, False), 16, seed=3, workers=workers)
    assert streamed.dataset.reader is not None
    assert equal(steps(streamed, 15), steps(whole, 15))  # over the ends of two epochs
    indices = whole.sample(50)
    for ours, theirs in zip(streamed.evaluation_sample(indices, 16), whole.evaluation_sample(indices, 16), strict=True):
        assert torch.equal(ours[0], theirs[0])
    assert torch.equal(streamed.dataset.factors(indices), whole.dataset.factors(indices))
    assert streamed.dataset.space == whole.dataset.space is not None


def test_a_folder_is_streamed_above_a_size_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert custom(folder, None).reader is None
    monkeypatch.setattr("deft_lightning.data.custom.dataset.IN_MEMORY", 96 * 64 * 64 - 1)
    streamed = custom(folder, None)
    assert streamed.reader is not None
    assert any("decoded when they are needed" in notice for notice in streamed.notices)
    assert custom(folder, True).reader is None
    assert not any("decoded when they are needed" in notice for notice in custom(folder, False).notices)


def test_the_digest_of_a_streamed_folder_tells_changed_files_and_labels(folder: Path, tmp_path: Path) -> None:
    import shutil  # noqa: PLC0415

    own = Path(shutil.copytree(folder, tmp_path / "own"))
    before = custom(own, False).digest
    assert custom(own, False).digest == before == custom(folder, False).digest
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(own / "003.png")
    assert custom(own, False).digest != before
    assert CustomImages(folder, in_memory=False).digest != before


def test_a_file_of_arrays_is_not_streamed(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=PIXELS)
    with pytest.raises(DeftError, match=r"data.in_memory is False, and .*own.npz is a file: give a folder"):
        CustomImages(tmp_path / "own.npz", in_memory=False)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_named_in_one_sentence_when_it_is_reached(tmp_path: Path, workers: int) -> None:
    for index in range(8):
        Image.fromarray(PIXELS[index]).save(tmp_path / f"{index}.png")
    whole = (tmp_path / "5.png").read_bytes()
    (tmp_path / "5.png").write_bytes(whole[: len(whole) - 30])
    data = FactorDataModule(CustomImages(tmp_path, in_memory=False), 8, workers=workers)
    with pytest.raises(DeftError, match=r"5.png is damaged or not an image: replace or delete it.") as caught:
        steps(data, 1)
    assert "\n" not in str(caught.value)


# --- Workers ---


class Zeros:
    """A reader of black images."""

    def __call__(self, index: int, seed: int) -> streaming.Item:
        return streaming.Item(torch.zeros(1, 8, 8))


class Deadly(Zeros):
    """Kills the process that reads image 3, as the system does where memory runs out."""

    def __call__(self, index: int, seed: int) -> streaming.Item:
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(index, seed)


def test_a_worker_that_dies_is_one_sentence() -> None:
    with pytest.raises(DeftError, match=r"a process that decodes images has died \(.*\): set a smaller data.workers"):
        list(streaming.DecodedStream(Deadly(), [[(index, 0)] for index in range(8)], 1))


def test_other_errors_keep_their_type() -> None:
    with pytest.raises(RuntimeError, match="of another kind"), streaming.deaths_told():
        raise RuntimeError("of another kind")


@pytest.fixture
def alone() -> None:
    """No worker of another test is left."""
    gc.collect()
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("alone")
def test_a_fit_that_ends_early_leaves_no_worker(folder: Path) -> None:
    """They ignore SIGTERM, so the process would wait for them for ever when it exits."""
    data = FactorDataModule(custom(folder, False), 16, workers=1)
    evaluation = data.evaluation_sample(torch.arange(40), 16)
    next(evaluation)
    steps(data, 1)
    assert len(multiprocessing.active_children()) == 2
    data.on_exception(KeyboardInterrupt())
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("alone")
def test_workers_end_with_a_loader_that_the_garbage_collector_finds(folder: Path) -> None:
    data = FactorDataModule(custom(folder, False), 16, workers=1)
    steps(data, 1)
    data.myself = data
    assert multiprocessing.active_children()
    begin = time.monotonic()
    del data
    gc.collect()
    assert not multiprocessing.active_children()
    assert time.monotonic() - begin < 5  # torch waits so long for workers that do not answer


@pytest.mark.slow  # starts a process that imports torch
def test_a_process_exits_although_a_stream_is_open() -> None:
    """As after an error whose traceback still refers to it."""
    code = """
from tests.data.test_streaming import Zeros, streaming
opened = streaming.DecodedStream(Zeros(), [[(0, 0)]] * 9, 1)
next(opened)
kept = [opened]
kept.append(kept)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0


@pytest.fixture
def spawned() -> Iterator[None]:
    """New processes begin as on macOS: with a fresh interpreter, which gets a pickled copy."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow  # starts processes that import torch
@pytest.mark.usefixtures("spawned")
def test_workers_that_are_spawned_give_the_same_batches(folder: Path) -> None:
    whole = FactorDataModule(custom(folder, True), 16, seed=3)
    streamed = FactorDataModule(custom(folder, False), 16, seed=3, workers=1)
    assert equal(steps(streamed, 3), steps(whole, 3))


@pytest.mark.usefixtures("spawned")
@pytest.mark.filterwarnings("ignore:Got pickle error")
def test_a_dataset_that_cannot_be_sent_to_spawned_workers_is_one_sentence() -> None:
    dataset = Sprites()
    dataset.transform = lambda image: image
    with pytest.raises(DeftError, match=r"cannot be sent to the processes that decode images \(.*lambda.*\): use"):
        steps(FactorDataModule(dataset, 16, workers=1), 1)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (3, 2), (64, 4)])
def test_a_core_is_left_for_the_training(cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "cpu_count", lambda: cores)
    assert FactorDataModule("dsprites").workers == workers


# --- A torch Dataset ---


@pytest.mark.parametrize("kind", ["float", "uint8", "PIL", "bits", "array", "matrix"])
def test_every_form_of_an_image_gives_the_same_pixels(kind: str) -> None:
    dataset = TorchImages(Sprites(kind))
    assert dataset.shape == (1, 64, 64)
    assert dataset.name == "Sprites"
    assert dataset.factor_names == Sprites.factor_names
    indices = torch.tensor([5, 0, 95, 5])
    expected = TinySprites().images(indices, torch.Generator())
    assert torch.equal(dataset.images(indices, torch.Generator()), expected)
    assert torch.equal(dataset.factors(indices), FACTORS[indices])


@pytest.mark.parametrize("workers", [1, 2])
def test_what_transforms_draw_does_not_depend_on_the_workers_or_on_what_was_drawn_before(workers: int) -> None:
    inside = FactorDataModule(Sprites(noisy=True), 16, seed=3, workers=0)
    outside = FactorDataModule(Sprites(noisy=True), 16, seed=3, workers=workers)
    ours = steps(outside, 9)
    torch.manual_seed(5)
    assert equal(ours, steps(inside, 9))
    step, images = ours[4]
    batch = list(FactorDataModule(TinySprites(), 16, seed=3).train_dataloader())[4]
    assert torch.equal(inside.on_after_batch_transfer(Batch(batch.indices, step), 0), images)  # a function of the step
    indices = inside.sample(40)
    for one, other in zip(inside.evaluation_images(indices, 16), outside.evaluation_images(indices, 16), strict=True):
        assert torch.equal(one, other)
    again = torch.cat([images for _, images in steps(FactorDataModule(Sprites(noisy=True), 16, seed=4, workers=0), 6)])
    assert not torch.equal(again, torch.cat([images for _, images in ours[:6]]))


def test_items_leave_the_random_numbers_of_the_process_as_they_are() -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    steps(FactorDataModule(Sprites(noisy=True), 16, workers=0), 2)
    list(FactorDataModule(Sprites(noisy=True), 16, workers=1).evaluation_images(torch.arange(40), 16))
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert states[2] == random.getstate()


@pytest.mark.parametrize("delivered", [0, 1, 5, 6, 7, 13])
def test_a_restored_loader_continues_although_workers_were_ahead(delivered: int) -> None:
    whole = steps(FactorDataModule(Sprites(noisy=True), 16, seed=3, workers=2), 18)
    first = FactorDataModule(Sprites(noisy=True), 16, seed=3, workers=2)
    assert equal(steps(first, delivered), whole[:delivered])
    second = FactorDataModule(Sprites(noisy=True), 16, seed=3, workers=1)
    second.load_state_dict(first.train_dataloader().state_dict())
    assert equal(steps(second, 18 - delivered), whole[delivered:])


def test_each_process_decodes_its_part_of_a_batch_alone() -> None:
    dataset = TorchImages(Sprites(noisy=True))
    single = next(iter(StreamLoader(dataset.reader, 0, 96, 16, 3)))
    parts = [next(iter(StreamLoader(dataset.reader, 0, 96, 16, 3, rank, 2))).pixels for rank in range(2)]
    assert [len(part) for part in parts] == [8, 8]
    assert torch.equal(torch.cat(parts), single.pixels)


def test_seeds_of_items_differ_within_and_between_batches() -> None:
    seeds = [seed for _ in range(3) for _, seed in keys(torch.zeros(50, dtype=torch.int64), torch.Generator())]
    assert len(set(seeds)) == 50  # the same generator state, the same seeds
    random_ = torch.Generator()
    assert len({seed for _ in range(3) for _, seed in keys(torch.zeros(50, dtype=torch.int64), random_)}) == 150


def test_held_out_items_are_not_trained_on() -> None:
    data = FactorDataModule(Sprites(), 8, seed=3, held_out=0.25, workers=1)
    trained = torch.cat([batch.indices for batch in data.train_dataloader()])
    assert torch.equal(trained.sort().values, data.split.training)


def test_the_spectrum_reads_every_item_once() -> None:
    counted = Sprites("uint8", labels=False)
    read: list[int] = []
    original = Sprites.__getitem__

    class Counting(Sprites):
        def __getitem__(self, index: int):
            read.append(index)
            return original(self, index)

    counted = Counting("uint8", labels=False)
    ours = spectrum_of(TorchImages(counted)).eigenvalues
    assert len(read) <= 1 + 96 * 10  # a small data set is taken ten times, with new nuisances; and item 0 for the shape
    assert np.allclose(ours, spectrum_of(TinySprites()).eigenvalues, rtol=1e-5)


class Broken(Sprites):
    """Item 3 is `item`, or raises it."""

    def __init__(self, item, **options) -> None:
        super().__init__(**options)
        self.item = item

    def __getitem__(self, index: int):
        if index != 3:
            return super().__getitem__(index)
        if isinstance(self.item, Exception):
            raise self.item
        return self.item


@pytest.mark.parametrize(
    ("item", "labels", "sentence"),
    [
        (KeyError("gone"), True, r"item 3 of Broken cannot be read \(KeyError: 'gone'\): look at its code"),
        (
            torch.zeros(1, 32, 32),
            False,
            "item 3 of Broken is 1 x 32 x 32, and item 0 is 1 x 64 x 64: resize",
        ),
        (Image.new("I;16", (64, 64)), False, "item 3 of Broken is a PIL image of mode I;16: give"),
        (torch.full((1, 64, 64), 2.0), False, "item 3 of Broken has values from 2 to 2: give"),
        (torch.full((1, 64, 64), float("nan")), False, "item 3 of Broken has values from nan to nan"),
        ("a path", False, "item 3 of Broken is a str: give"),
        ((torch.zeros(1, 64, 64), 1, 2), False, r"item 3 of Broken has 3 parts: give an image, or \(image, factors\)"),
        ((torch.zeros(1, 64, 64), [1, 2]), True, "item 3 of Broken has 2 factors, and item 0 has 4: give all as many"),
        (torch.zeros(1, 64, 64), True, "item 3 of Broken has 0 factors, and item 0 has 4"),
        (
            (torch.zeros(1, 64, 64), [0.5, 1, 2, 3]),
            True,
            r"factors of item 3 of Broken are \[0.5, 1, 2, 3\]: give",
        ),
        ((torch.zeros(1, 64, 64), "disc"), True, "factors of item 3 of Broken are 'disc': give whole numbers"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_wrong_item_is_one_sentence(item, labels: bool, sentence: str, workers: int) -> None:
    data = FactorDataModule(Broken(item, labels=labels), 96, workers=workers)
    with pytest.raises(DeftError, match=sentence) as caught:
        steps(data, 1)
    assert "\n" not in str(caught.value)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield torch.zeros(1, 64, 64)


class Nothing(Sprites):
    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        (Stream(), "Stream is no map-style torch Dataset: it needs __len__ and __getitem__"),
        (Nothing(), "Nothing has no items: give images to train on"),
        ([1, 2], "the data are a list: give a data set of deft_lightning, or a map-style torch Dataset"),
    ],
)
def test_what_is_no_map_style_dataset_is_refused(dataset, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        _ = FactorDataModule(dataset).dataset
