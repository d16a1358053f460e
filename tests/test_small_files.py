"""Small local files, compared and read in groups: the same pixels and errors as one by one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from intake_tiffstack import open_stack
from intake_tiffstack.errors import FileChangedError, StructureMismatchError, UnreadableFileError
from intake_tiffstack.header.cache import clear_headers
from intake_tiffstack.reading import small_files
from intake_tiffstack.reading.region import PartRead
from intake_tiffstack.storage.files import FileTable
from intake_tiffstack.storage.local_ranges import read_whole
from tiff_files import listed

COUNT = 12

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dated": {"datetime": True},
    "plain big-endian": {"byteorder": ">"},
    "zlib": {"compression": "zlib", "datetime": True},
    "zlib big-endian": {"compression": "zlib", "byteorder": ">", "predictor": True},
    "zlib strips": {"compression": "zlib", "rowsperstrip": 5},
    "zlib tiles": {"compression": "zlib", "tile": (16, 16)},
    "lzw": {"compression": "lzw", "predictor": True},
    "BigTIFF": {"compression": "zlib", "bigtiff": True},
    "ImageJ": {"imagej": True},
}


def write(folder: Path, *shape: int, count: int = COUNT, **options: Any) -> NDArray[np.uint16]:
    """Write files ``t00.tif`` ... and return what they hold."""
    rng = np.random.default_rng(0)
    held = rng.integers(0, 500, (count, *shape)).astype("u2")
    has_date = options.pop("datetime", False)
    for i, pixels in enumerate(held):
        date = {"datetime": f"2024:01:01 00:00:{i:02}"} if has_date else {}
        path = folder / f"t{i:02}.tif"
        tifffile.imwrite(path, pixels, photometric="minisblack", **date, **options)
    return held


def open_them(folder: Path, **options: Any) -> Any:
    clear_headers()
    options = {"pattern": "t{t:d}.tif", "concat_dim": "t", "validate": "template", **options}
    return open_stack(f"{folder}/t*.tif", **options).collection.array


@contextmanager
def read_alone() -> Iterator[list[str]]:
    """Yield the names of the files that are read on their own."""
    names: list[str] = []
    run = PartRead.run

    def noted(self: PartRead) -> None:
        names.append(Path(self.file.url).name)
        run(self)

    with patch.object(PartRead, "run", noted):
        yield names


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pages", [1, 3])
def test_files_of_one_kind_are_read_in_groups(tmp_path: Path, kind: str, pages: int) -> None:
    held = write(tmp_path, *([pages] * (pages > 1)), 33, 20, **KINDS[kind])
    array = open_them(tmp_path)
    with read_alone() as names:
        np.testing.assert_array_equal(np.asarray(array), held)
    if pages == 1 or "compression" not in KINDS[kind]:  # else directories lie anywhere
        assert len(names) <= 1, names


def test_a_file_is_opened_once_and_read_once(tmp_path: Path) -> None:
    write(tmp_path, 32, 32, datetime=True, compression="zlib")
    array = open_them(tmp_path)
    array[:2]  # a second file shows which bytes a file may have of its own
    with (
        patch.object(os, "open", wraps=os.open) as opens,
        patch.object(os, "preadv", wraps=os.preadv) as reads,
    ):
        np.asarray(array)
    assert opens.call_count == reads.call_count == COUNT


@given(data=st.data())
def test_any_region_is_what_numpy_takes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("regions")
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    held = write(folder, 3, 17, 9, count=6, **KINDS[kind])
    dims = data.draw(st.permutations("tzyx"))
    array = open_them(folder, file_dims="zyx", dims=dims)
    held = held.transpose(["tzyx".index(dim) for dim in dims])
    key = tuple(
        data.draw(
            st.slices(n).filter(lambda s, n=n: len(range(n)[s])) | st.integers(0, n - 1), label=dim
        )
        for n, dim in zip(held.shape, dims, strict=True)
    )
    np.testing.assert_array_equal(array[key], held[key])


def test_holes_are_filled(tmp_path: Path) -> None:
    held = write(tmp_path, 16, 16)
    array = open_them(
        tmp_path, pattern="t{a:1d}{b:1d}.tif", concat_dim=["a", "b"], missing="mask", fill_value=7
    )
    expected = np.full((20, 16, 16), 7, "u2")
    expected[:COUNT] = held
    np.testing.assert_array_equal(np.asarray(array), expected.reshape(2, 10, 16, 16))


def test_files_along_a_dim_of_their_own_are_placed(tmp_path: Path) -> None:
    held = write(tmp_path, 2, 16, 16)
    array = open_them(tmp_path, file_dims="zyx", concat_dim="z", pattern="t{z:d}.tif")
    with read_alone() as names:
        np.testing.assert_array_equal(array[3:], held.reshape(-1, 16, 16)[3:])
    assert len(names) <= 1


def test_without_a_known_file_one_of_each_kind_is_read_alone(tmp_path: Path) -> None:
    held = write(tmp_path, 32, 32)
    for i in range(0, COUNT, 2):
        path = tmp_path / f"t{i:02}.tif"
        tifffile.imwrite(path, held[i], photometric="minisblack", compression="zlib")
    array = open_them(tmp_path)
    clear_headers()  # as on a worker
    with read_alone() as names:
        np.testing.assert_array_equal(np.asarray(array), held)
    assert len(names) <= 3
    assert {int(name[1:3]) % 2 for name in names} == {0, 1}


def test_files_that_are_like_no_other_are_no_longer_compared(tmp_path: Path) -> None:
    held = write(tmp_path, 8, 8)
    for i, pixels in enumerate(held):
        tifffile.imwrite(tmp_path / f"t{i:02}.tif", pixels, description="a" * (i + 1))
    array = open_them(tmp_path)
    with (
        patch.object(small_files, "FIRST", 4),
        patch.object(small_files, "GROUP", 4),
        patch.object(small_files, "read_whole", wraps=read_whole) as reads,
        read_alone() as names,
    ):
        np.testing.assert_array_equal(np.asarray(array), held)
    assert len(names) == COUNT - 1  # all but the template
    assert reads.call_count == 2  # of three groups


def test_large_files_are_not_read_whole(tmp_path: Path) -> None:
    held = write(tmp_path, 8, 8)
    large = np.arange(400 * 400, dtype="u2").reshape(400, 400)
    tifffile.imwrite(tmp_path / "t05.tif", large)
    assert (tmp_path / "t05.tif").stat().st_size > small_files.MOST_BYTES
    array = open_them(tmp_path, unequal="pad", validate="all")
    with read_alone() as names:
        found = np.asarray(array)
    assert "t05.tif" in names
    np.testing.assert_array_equal(found[5], large)
    np.testing.assert_array_equal(found[6, :8, :8], held[6])


def test_files_of_medium_size_are_read_whole_if_most_of_them_is_wanted(tmp_path: Path) -> None:
    held = write(tmp_path, 150, 150)
    array = open_them(tmp_path)
    with read_alone() as names, patch.object(small_files, "GROUP_BYTES", 100_000):
        np.testing.assert_array_equal(array[:, :120], held[:, :120])
    assert not names
    with read_alone() as names:
        np.testing.assert_array_equal(array[:, 3, 4], held[:, 3, 4])
    assert len(names) == COUNT


@pytest.mark.parametrize(
    ("most_seconds", "edge", "is_in_turn"),
    [(10, 16, True), (0, 16, False), (10, 120, False)],
    ids=["small from memory", "from a disk", "larger"],
)
def test_threads_take_turns_with_small_files_that_come_from_memory(
    tmp_path: Path, most_seconds: float, edge: int, is_in_turn: bool
) -> None:
    held = write(tmp_path, edge, edge)
    array = open_them(tmp_path)
    two = threading.Barrier(2)
    is_met: list[bool] = []

    def read(files: FileTable, out: NDArray[np.uint8]) -> NDArray[np.bool_]:
        if len(files) > 2:  # the first group shows what the others will be like
            try:
                two.wait(0.3 if is_in_turn else 10)
                is_met.append(True)
            except threading.BrokenBarrierError:
                is_met.append(False)
        return read_whole(files, out)

    with (
        patch.object(small_files, "FIRST", 2),
        patch.object(small_files, "SLOW", most_seconds),
        patch.object(small_files, "read_whole", read),
        ThreadPoolExecutor(2) as pool,
    ):
        halves = list(pool.map(array.__getitem__, [slice(0, 6), slice(6, 12)]))
    np.testing.assert_array_equal(np.concatenate(halves), held)
    assert is_met == [not is_in_turn] * 2


def test_a_fork_finds_no_turn_that_another_thread_has() -> None:
    held = small_files._TURN
    with held:
        small_files._renew_turn()
        assert small_files._TURN is not held
        assert small_files._TURN.acquire(timeout=1)
        small_files._TURN.release()


def rewrite(path: Path, content: bytes) -> None:
    """Write a file again, with its time of modification as it was."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", ["content", "time", "shorter", "longer", "gone", "pipe"])
def test_a_file_that_changed_is_an_error_that_names_it(tmp_path: Path, change: str) -> None:
    write(tmp_path, 32, 32)
    array = open_them(tmp_path)
    path = tmp_path / "t07.tif"
    content = path.read_bytes()
    if change == "content":
        rewrite(path, content[:-1] + b"\1")
    elif change == "time":
        os.utime(path, (1, 1))
    elif change == "shorter":
        rewrite(path, content[:-100])
    elif change == "longer":
        rewrite(path, content + b"\0")
    else:
        path.unlink()
        if change == "pipe":
            os.mkfifo(path)
    expected = UnreadableFileError if change == "pipe" else FileChangedError
    with pytest.raises(expected, match=r"t07\.tif"):
        np.asarray(array)


def test_a_change_while_a_file_is_read_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, 32, 32)
    array = open_them(tmp_path)
    path = tmp_path / "t07.tif"
    preadv = os.preadv

    def read(descriptor: int, *rest: Any) -> int:
        count = preadv(descriptor, *rest)
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            with path.open("r+b") as file:
                file.write(b"II")
        return count

    with patch.object(os, "preadv", read), pytest.raises(FileChangedError, match=r"t07\.tif"):
        np.asarray(array)


def test_a_table_that_leads_out_of_the_file_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, 32, 32, compression="zlib", metadata=None)
    path = tmp_path / "t07.tif"
    path.write_bytes(path.read_bytes()[:-20])
    array = open_them(tmp_path)
    with pytest.raises(UnreadableFileError, match=r"t07\.tif is truncated"):
        np.asarray(array)


@pytest.mark.parametrize("on_error", ["raise", "fill"])
def test_pixels_that_cannot_be_decoded_are_an_error_or_filled(
    tmp_path: Path, on_error: str
) -> None:
    held = write(tmp_path, 32, 32, compression="zlib", metadata=None)
    path = tmp_path / "t07.tif"
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start + 40 : start + 80] = bytes(40)
    path.write_bytes(content)
    array = open_them(tmp_path, on_error=on_error, fill_value=3)
    if on_error == "raise":
        with pytest.raises(UnreadableFileError, match=r"t07\.tif: segment 0 of page 0"):
            np.asarray(array)
        return
    held[7] = 3
    with read_alone() as names:
        np.testing.assert_array_equal(np.asarray(array), held)
    assert "t07.tif" in names
    assert len(names) <= 2


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (2, 32, 16)])
def test_a_file_of_equal_size_and_another_shape_is_an_error(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    write(tmp_path, 32, 32, metadata=None)
    tifffile.imwrite(tmp_path / "t07.tif", np.zeros(shape, "u2"), metadata=None)
    array = open_them(tmp_path, file_dims="yx")
    with pytest.raises(StructureMismatchError, match=r"t07\.tif"):
        np.asarray(array)


def test_whole_files_are_read_as_they_were_listed(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "changed", "c", "gone")]
    for path in paths:
        path.write_bytes(path.name.encode())
    files = FileTable.from_files(map(listed, paths))
    paths[1].write_bytes(b"CHANGED!")
    paths[3].unlink()
    out = np.zeros((4, 10), np.uint8)
    assert read_whole(files, out).tolist() == [True, False, True, False]
    assert out[[0, 2], 0].tobytes() == b"ac"
    assert not out[[0, 2], 1:].any()
