from __future__ import annotations

import logging
import multiprocessing
import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache

ARRAYS = {"images": np.arange(60_000, dtype=np.uint8).reshape(-1, 100), "labels": np.arange(600) - 7}


def load(path: Path, build=lambda: ARRAYS, kind: str = "tiny", version: int = 3, **options) -> dict[str, np.ndarray]:
    return cache.load_or_build(path, build, kind=kind, version=version, **options).arrays


def never():
    raise AssertionError("the cache was good and must not be rebuilt")


def same(arrays: dict[str, np.ndarray]) -> bool:
    return arrays.keys() == ARRAYS.keys() and all(
        np.array_equal(arrays[key], ARRAYS[key]) and arrays[key].dtype == ARRAYS[key].dtype for key in ARRAYS
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "tiny.h5"


def leftovers(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if not entry.name.endswith(".lock"))


def test_what_was_built_is_read_back(path):
    assert same(load(path))
    assert same(load(path, never))
    assert leftovers(path) == ["tiny.h5"]


@pytest.mark.parametrize("keep", [0, 1, 700, 0.3, 0.9, 0.9999])
def test_an_incomplete_cache_is_rebuilt(path, keep, caplog):
    load(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with caplog.at_level(logging.WARNING):
        assert same(load(path))
    assert len(caplog.messages) == 1
    assert "is rebuilt: " in caplog.messages[0]
    assert same(load(path, never))


def test_no_flipped_bit_ever_changes_the_arrays(path):
    load(path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in [*range(0, 2000, 61), *random.integers(len(whole), size=40)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            # Some bytes of the file have no meaning; then the arrays are still right.
            assert same(cache.read(path, kind="tiny", version=3).arrays), place
        except cache.StaleCacheError:
            continue


def test_a_flipped_pixel_is_noticed(path, caplog):
    load(path)
    with h5py.File(path, "r+") as file:
        file["images"][5, 5] ^= 1
    assert same(load(path))
    assert "its digest does not match" in caplog.text


def test_a_missing_array_is_noticed(path):
    load(path)
    with h5py.File(path, "r+") as file:
        del file["labels"]
    assert same(load(path))


@pytest.mark.parametrize("other", [{"kind": "published"}, {"version": 4}])
def test_another_kind_or_version_is_rebuilt(path, other, caplog):
    load(path, lambda: {"images": np.zeros(3)}, **other)
    assert same(load(path))
    assert "is rebuilt: it holds" in caplog.text


def test_an_array_may_be_written_in_blocks(path):
    """The digest is that of the whole array."""
    rows = (ARRAYS["images"][start : start + 7] for start in range(0, 600, 7))
    blocks = cache.Blocks((600, 100), np.dtype(np.uint8), rows, "Making")
    prepared = cache.load_or_build(path, lambda: {**ARRAYS, "images": blocks}, kind="tiny", version=3)
    assert same(prepared.arrays)
    assert prepared.digest == cache.digest(ARRAYS)
    assert cache.read(path, kind="tiny", version=3).digest == prepared.digest


def test_replaced_source_files_are_noticed(path, tmp_path, caplog):
    source = tmp_path / "source"
    source.write_text("first")
    assert same(load(path, origin=cache.origin_of([source])))
    assert same(load(path, never, origin=cache.origin_of([source])))
    before = source.stat()
    source.write_text("other")  # as long as before
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    builds: list[str] = []
    load(path, lambda: builds.append("x") or ARRAYS, origin=cache.origin_of([source]))
    assert builds == ["x"]
    assert "the files it was made from have changed" in caplog.text
    assert same(load(path, never))  # without the files, nothing is compared


def test_the_error_about_a_cache_that_cannot_be_rebuilt_says_whether_it_is_missing_or_damaged(path):
    def ask() -> cache.Prepared:
        return cache.load(path, kind="tiny", version=3, missing="the folder is empty: fetch the file.")

    with pytest.raises(cache.MissingDataError, match=r"^the folder is empty: fetch the file\.$") as caught:
        ask()
    assert not caught.value.damaged
    load(path)
    assert same(ask().arrays)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        cache.MissingDataError,
        match=r"tiny\.h5 cannot be used \(it is .*\), and the folder is empty: fetch",
    ) as caught:
        ask()
    assert caught.value.damaged


def test_a_disk_that_does_not_keep_what_is_written_is_one_sentence(path, monkeypatch):
    monkeypatch.setattr(cache, "digest", lambda _: "another")
    with pytest.raises(DeftError, match=r"tiny\.h5 does not hold what was just written to it: check the disk"):
        load(path)


def test_nothing_is_left_when_building_fails(path):
    with pytest.raises(ZeroDivisionError):
        load(path, lambda: 1 / 0)
    assert leftovers(path) == []
    assert same(load(path))  # the lock was released


def test_a_good_file_survives_a_failure_to_write_its_successor(path, monkeypatch):
    load(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DeftError, match=r"tiny\.h5 cannot be written \(No space left on device\): .*data\.root"):
        load(path, version=4)
    assert path.read_bytes() == before
    assert leftovers(path) == ["tiny.h5"]


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DeftError, match=r"tiny\.h5 cannot be written \(.*taken is a file, not a folder\): .*root"):
        load(tmp_path / "taken" / "tiny.h5")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write to")
def test_a_folder_that_cannot_be_made_is_one_sentence():
    with pytest.raises(DeftError, match=r"/proc/deft/tiny\.h5 cannot be written \(.*\): .*data\.root"):
        load(Path("/proc/deft/tiny.h5"))


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_folder_without_write_permission(path, call, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    load(path)
    monkeypatch.setattr(*{"mkdir": (Path, "mkdir"), "open": (os, "open")}[call], refuse)  # os.open: of the lock
    assert same(load(path, never))
    with pytest.raises(DeftError, match=r"other\.h5 cannot be written \(Permission denied\): .*data\.root"):
        load(path.with_name("other.h5"))
    assert leftovers(path) == ["tiny.h5"]


needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")


def process(target, *arguments) -> multiprocessing.process.BaseProcess:
    child = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    child.start()
    return child


def load_with_little_space(path: Path) -> None:
    resource = pytest.importorskip("resource")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        load(path, lambda: {"images": np.zeros(10**6)})
    except DeftError as error:
        path.with_name("message").write_text(str(error))


@needs_fork
def test_a_full_disk_is_one_sentence_and_leaves_nothing(path):
    path.parent.mkdir()
    child = process(load_with_little_space, path)
    child.join()
    message = path.with_name("message").read_text()
    assert message.startswith(f"{path} cannot be written (File too large): free some space")
    assert child.exitcode == 0
    assert leftovers(path) == ["message"]


def load_slowly(path: Path, seconds: float) -> None:
    """Build for `seconds`, with a mark at the start; write the log beside the cache."""

    def build():
        with open(path.with_name("builds"), "a") as builds:
            builds.write("x")
        time.sleep(seconds)
        return ARRAYS

    cache.log.setLevel(logging.INFO)
    cache.log.addHandler(logging.FileHandler(path.with_name("log")))
    assert same(load(path, build))


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@needs_fork
def test_of_several_processes_one_builds_and_the_others_wait(path):
    path.parent.mkdir()
    children = [process(load_slowly, path, 0.7) for _ in range(3)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert path.with_name("builds").read_text() == "x"
    assert path.with_name("log").read_text().count("waiting for it") == 2
    assert same(load(path, never))


@needs_fork
def test_a_killed_process_blocks_nobody(path):
    path.parent.mkdir()
    child = process(load_slowly, path, 60)
    wait_for(path.with_name("builds"))
    child.kill()
    child.join()
    assert same(load(path))


def test_the_default_folder_is_the_users_cache_and_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert tmp_path in cache.resolve_root(None).parents
    assert cache.resolve_root(None).name == "deft_lightning"
    assert cache.resolve_root("~/elsewhere") == tmp_path / "elsewhere"
