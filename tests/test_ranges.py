"""Bytes come from the file that was listed, all that were asked for, or an error says why not."""

from __future__ import annotations

import gc
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    StorageError,
    UnreadableFileError,
)
from intake_tiffstack.header import read_header
from intake_tiffstack.reading.region import read_region
from intake_tiffstack.storage import local_ranges as ranges
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.ranges import open_bytes
from servers import serve_folder
from tiff_files import listed, pixels, write_pages

CONTENT = np.random.default_rng(0).bytes(5000)
SPANS = st.lists(
    st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 900)).map(
        lambda span: (span[0], min(span[1], len(CONTENT) - span[0]))
    ),
    max_size=6,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    filesystem = MemoryFileSystem()
    filesystem.pipe("/bucket/a.bin", CONTENT)
    yield filesystem
    filesystem.rm("/bucket", recursive=True)


def fetch(file: File, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    buffers = [bytearray(count) for _, count in spans]
    source = open_bytes(file, {})
    source.fill([(start, memoryview(b)) for (start, _), b in zip(spans, buffers, strict=True)])
    return [bytes(buffer) for buffer in buffers]


def cut(spans: Sequence[tuple[int, int]]) -> list[bytes]:
    return [CONTENT[start : start + count] for start, count in spans]


def touch_later(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


def count_open(path: Path) -> int:
    """Return how many descriptors of this process are open files at or below *path*."""
    gc.collect()
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    # one is of the listing itself, and gone
    return sum(os.readlink(link).startswith(str(path)) for link in links if os.path.exists(link))


needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc"
)


# -- local files ---------------------------------------------------------------------------------


def test_spans_are_cut_out_of_the_file(path: Path) -> None:
    file = listed(path)

    @given(SPANS)
    def check(spans: list[tuple[int, int]]) -> None:
        assert fetch(file, spans) == cut(spans)

    check()


def test_what_preadv_leaves_over_is_asked_for_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "preadv"):
        pytest.skip("os.preadv is what is slowed down")
    real = os.preadv
    calls = []

    def preadv(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        calls.append(offset)
        return real(descriptor, [buffers[0][:7]], offset)

    monkeypatch.setattr(os, "preadv", preadv)
    assert fetch(listed(path), [(3, 100)]) == cut([(3, 100)])
    assert calls == list(range(3, 103, 7))


def test_a_read_is_at_most_what_linux_gives(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_PREADV_MOST", 64)
    assert fetch(listed(path), [(3, 1000)]) == cut([(3, 1000)])


def test_without_preadv_the_bytes_are_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    file = listed(path)

    @settings(max_examples=25)
    @given(SPANS)
    def check(spans: list[tuple[int, int]]) -> None:
        assert fetch(file, spans) == cut(spans)

    check()
    with pytest.raises(UnreadableFileError, match="ends at byte 5,000, but 1 more are needed"):
        fetch(file, [(4990, 11)])


def shrink(path: Path) -> None:
    path.write_bytes(CONTENT[:-1])


def rewrite(path: Path) -> None:
    path.write_bytes(CONTENT[::-1])
    touch_later(path)


def put_another(path: Path) -> None:
    other = path.with_name("b.bin")
    other.write_bytes(CONTENT[::-1])
    touch_later(other)
    other.replace(path)


def put_another_of_its_age(path: Path) -> None:
    """As ``cp -p`` or rsync do with a file of the same size."""
    times = path.stat()
    other = path.with_name("b.bin")
    other.write_bytes(CONTENT[::-1])
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    time.sleep(0.02)  # two steps of the clock of files
    other.replace(path)


def rewrite_and_set_back(path: Path) -> None:
    times = path.stat()
    time.sleep(0.02)
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def remove(path: Path) -> None:
    path.unlink()


def remove_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


POSIX = pytest.mark.skipif(os.name != "posix", reason="only there a file has a time of change")
CHANGES = pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(shrink, "had 5,000 bytes, now 4,999", id="size"),
        pytest.param(rewrite, "had another modification time", id="time"),
        pytest.param(put_another, "had another modification time", id="replaced"),
        pytest.param(
            put_another_of_its_age, "same, but it was replaced", id="other of its age", marks=POSIX
        ),
        pytest.param(
            rewrite_and_set_back, "same, but it was replaced", id="time set back", marks=POSIX
        ),
        pytest.param(remove, "no longer exists", id="deleted"),
    ],
)


@CHANGES
def test_a_file_that_changed_since_it_was_listed_is_an_error(
    path: Path, change: Callable[[Path], None], message: str
) -> None:
    file = listed(path)
    change(path)
    with pytest.raises(FileChangedError, match=message) as caught:
        fetch(file, [(0, 10)])
    assert str(path) in str(caught.value)
    assert "relist()" in str(caught.value)


def test_a_folder_that_is_gone_names_the_host(path: Path) -> None:
    file = listed(path)
    remove_folder(path)
    for read in (lambda: fetch(file, [(0, 10)]), lambda: read_header(file)):
        with pytest.raises(FilesNotFoundError, match=r"not exist on the host '.*'; all workers"):
            read()


@CHANGES
def test_so_it_is_for_its_header(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "folder" / "a.tif"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    file = listed(path)
    change(path)
    with pytest.raises(FileChangedError, match=message):
        read_header(file)


def test_a_file_written_while_it_is_read_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = listed(path)
    real = ranges._read_at

    def read_at(descriptor: int, start: int, buffer: memoryview, url: str) -> None:
        real(descriptor, start, buffer, url)
        rewrite(path)

    monkeypatch.setattr(ranges, "_read_at", read_at)
    with pytest.raises(FileChangedError, match="another modification time"):
        fetch(file, [(0, 10), (100, 10)])


def test_a_file_cut_while_it_is_read_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = listed(path)
    real = ranges._read_at

    def read_at(descriptor: int, start: int, buffer: memoryview, url: str) -> None:
        os.truncate(path, 50)
        real(descriptor, start, buffer, url)

    monkeypatch.setattr(ranges, "_read_at", read_at)
    with pytest.raises(UnreadableFileError, match=r"a\.bin ends at byte 50, but 50 more"):
        fetch(file, [(0, 100)])


def test_bytes_behind_the_end_are_an_error(path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="ends at byte 5,000, but 90 more are needed"):
        fetch(listed(path), [(4990, 100)])


def test_a_file_that_cannot_be_opened_is_an_error(path: Path) -> None:
    file = listed(path)
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(UnreadableFileError, match=r"a\.bin cannot be opened"):
        fetch(file, [(0, 1)])


@needs_proc
def test_no_descriptor_is_left_open(path: Path) -> None:
    file = listed(path)
    for _ in range(10):
        fetch(file, [(0, 100), (200, 10)])
        with pytest.raises(UnreadableFileError):
            fetch(file, [(4990, 100)])
        with pytest.raises(UnreadableFileError):
            read_header(file)
    assert count_open(path.parent) == 0


# -- remote objects ------------------------------------------------------------------------------


def test_ranges_of_an_object_are_cut_out_of_it(memory: MemoryFileSystem) -> None:
    file = listed("memory://bucket/a.bin")

    @given(SPANS.map(lambda spans: [span for span in spans if span[1]]))
    def check(spans: list[tuple[int, int]]) -> None:
        assert fetch(file, spans) == cut(spans)

    check()


def test_an_object_that_changed_since_it_was_listed_is_an_error(memory: MemoryFileSystem) -> None:
    file = listed("memory://bucket/a.bin")
    memory.pipe("/bucket/a.bin", CONTENT[::-1])
    with pytest.raises(FileChangedError, match=r"memory://.*a\.bin changed since it was listed"):
        fetch(file, [(0, 10)])


def test_an_object_that_is_gone_is_an_error_of_a_changed_file(memory: MemoryFileSystem) -> None:
    """As for a local file, so that ``on_error='fill'`` knows it."""
    file = listed("memory://bucket/a.bin")
    memory.rm("/bucket/a.bin")
    with pytest.raises(FileChangedError, match=r"a\.bin was listed but no longer exists"):
        fetch(file, [(0, 10)])
    with pytest.raises(FileChangedError, match=r"a\.bin was listed but no longer exists"):
        read_header(file)
    memory.pipe("/bucket/b.bin", b"")


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT[:5], None], ids=["same", "cut", "gone"])
def test_an_object_that_is_replaced_between_two_requests_is_an_error(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    file = listed("memory://bucket/a.bin")
    real = MemoryFileSystem._open

    def open_(self: MemoryFileSystem, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb" and content is None:
            self.rm("/bucket/a.bin")
            self.pipe("/bucket/b.bin", b"")
        elif mode == "rb":
            self.pipe("/bucket/a.bin", content)
        return real(self, path, mode, **options)

    monkeypatch.setattr(MemoryFileSystem, "_open", open_)
    with pytest.raises(FileChangedError, match=r"a\.bin"):
        fetch(file, [(0, 100)])


def test_bytes_behind_the_end_of_an_object_are_an_error(memory: MemoryFileSystem) -> None:
    with pytest.raises(UnreadableFileError, match=r"a\.bin ends at byte 5,000, but 100 bytes from"):
        fetch(listed("memory://bucket/a.bin"), [(4990, 100)])


def test_a_web_server_without_ranges_is_an_error(path: Path) -> None:
    with serve_folder(path.parent) as server:
        file = listed(f"{server.url}/a.bin")
        with pytest.raises(StorageError, match=r"a\.bin.*10 bytes from byte 20, but got all 5,000"):
            fetch(file, [(20, 10)])


@pytest.fixture
def member(tmp_path: Path) -> str:
    """The URL of a TIFF inside a ZIP archive."""
    write_pages(tmp_path / "a.tif", pixels(3, 20, 30), compression="zlib")
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.tif", "raw/a.tif")
    return f"zip://raw/a.tif::{tmp_path}/x.zip"


@needs_proc
def test_an_archive_is_open_once_however_often_it_is_read(member: str) -> None:
    file = listed(member)
    for _ in range(5):
        header = read_header(file)
        out = np.empty((1, 5, 30), "uint16")
        read_region(header, header.structure, (range(1, 2), range(5), range(30)), out)
    assert count_open(Path(member.rpartition("::")[2])) <= 1


def test_an_archive_that_is_gone_is_an_error_of_a_changed_file(member: str) -> None:
    file = listed(member)
    Path(member.rpartition("::")[2]).unlink()
    for ask in (lambda: fetch(file, [(0, 10)]), lambda: read_header(file)):
        with pytest.raises(FileChangedError, match="was listed but no longer exists"):
            ask()


def test_an_archive_that_was_written_anew_is_an_error(member: str) -> None:
    file = listed(member)
    with zipfile.ZipFile(member.rpartition("::")[2], "w") as archive:
        archive.writestr("raw/a.tif", b"II*\0" + CONTENT)
    with pytest.raises(FileChangedError, match="changed since it was listed"):
        fetch(file, [(0, 10)])
