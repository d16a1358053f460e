"""The table of files: rows, columns, pickles and tokens."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack.reading.reader import CollectionReader
from intake_tiffstack.storage.files import File, FileTable
from intake_tiffstack.storage.urls import split_chain

SECRET = "hunter2-hunter2"

files = st.builds(
    File,
    url=st.text(st.characters(codec=None), min_size=1, max_size=9),  # lone surrogates too
    size=st.integers(-1, 2**62),
    mtime_ns=st.integers(-1, 2**62),
    etag=st.none() | st.text(max_size=9),
    ctime_ns=st.integers(-1, 2**62),
)
tables = st.lists(files, max_size=9).map(FileTable.from_files)


def lattice_url(t: int, c: int) -> str:
    return (
        f"/data/experiment/raw/Sample_A_Cam{'AB'[c % 2]}_ch{c}_CAM1_stack{t:04d}_"
        f"{(488, 560, 642)[c]}nm_{t * 3247:07d}msec_{t * 13 + 9873421:010d}msecAbs_"
        f"000x_000y_000z_{t:04d}t.tif"
    )


@given(tables)
def test_pickled_copy_is_equal(table: FileTable) -> None:
    copy = pickle.loads(pickle.dumps(table))
    assert copy == table
    assert copy.token() == table.token()
    assert list(copy) == list(table)


@given(st.lists(files, max_size=9), st.data())
def test_rows_slices_and_take_agree_with_a_list(rows: list[File], data: st.DataObject) -> None:
    table = FileTable.from_files(rows)
    assert len(table) == len(rows)
    assert list(table) == rows
    picks = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
    assert list(table.take(picks)) == [rows[i] for i in picks]
    cut = data.draw(st.slices(len(rows)))
    assert list(table[cut]) == rows[cut]
    at = data.draw(st.integers(0, len(rows)))
    assert FileTable.join([table[:at], table[at:]]) == table
    assert list(table.sorted()) == sorted(rows, key=lambda file: file.url)


def test_times_of_change_are_no_part_of_the_token() -> None:
    """A copy of files that were backed up or restored meanwhile is resumed, and counts."""
    one, other = (FileTable.from_files([File("/a", 10, 5, None, ctime)]) for ctime in (7, 8))
    assert one != other
    assert one.token() == other.token()


def test_the_token_of_many_files_is_that_of_all_their_names_in_one() -> None:
    table = FileTable.from_files(File(lattice_url(t, 0), t, -1, None) for t in range(10_000))
    digest = hashlib.blake2b("\0".join(table.urls).encode(), digest_size=16)
    digest.update(b"null" + table.sizes.tobytes() + table.mtimes.tobytes())
    assert table.token() == digest.hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        File("/raw/b.tif", 10, 5, None),
        File("/raw/a.tif", 11, 5, None),
        File("/raw/a.tif", 10, 6, None),
        File("/raw/a.tif", 10, 5, '"e"'),
    ],
    ids=["url", "size", "mtime", "etag"],
)
def test_token_and_equality_see_every_column(change: File) -> None:
    table = FileTable.from_files([File("/raw/a.tif", 10, 5, None)])
    other = FileTable.from_files([change])
    assert table != other
    assert table.token() != other.token()


@pytest.mark.parametrize("sign", [",", "\0", '", "'])
def test_token_sees_how_names_are_cut(sign: str) -> None:
    one = FileTable.from_files([File(f"a{sign}b", 1, 1, None), File("c", 1, 1, None)])
    two = FileTable.from_files([File("a", 1, 1, None), File(f"b{sign}c", 1, 1, None)])
    assert one.token() != two.token()


def test_storage_options_travel_but_are_not_shown() -> None:
    reader = CollectionReader({"key": SECRET}, series=1)
    assert pickle.loads(pickle.dumps(reader)).storage_options == {"key": SECRET}
    assert repr(reader) == repr(CollectionReader(series=1))  # of which the token is made
    assert reader != CollectionReader(series=1)
    assert hash(reader) == hash(CollectionReader(series=1))
    assert SECRET not in repr(reader) + str(reader)


@pytest.mark.parametrize("has_etags", [False, True], ids=["local", "store"])
def test_pickle_of_100_000_files_is_small(has_etags: bool) -> None:
    urls = sorted(lattice_url(t, c) for c in range(3) for t in range(33_334))
    mtimes = np.random.default_rng(0).integers(0, 2**60, len(urls))
    etags = None
    if has_etags:  # hex digits cannot be packed below half their number
        digits = np.random.default_rng(0).bytes(16 * len(urls)).hex()
        etags = tuple(f'"{digits[i : i + 32]}"' for i in range(0, len(digits), 32))
        mtimes[:] = -1
    ctimes = None if has_etags else mtimes
    table = FileTable(tuple(urls), np.full(len(urls), 8 * 64 * 48 * 2), mtimes, etags, ctimes)
    assert len(pickle.dumps(table)) < 4_000_000


def test_columns_cannot_be_written() -> None:
    table = FileTable.from_files([File("/raw/a.tif", 10, 5, None)])
    with pytest.raises(ValueError, match="read-only"):
        table.sizes[0] = 11


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"equally long, but got .*'urls': 2, 'sizes': 1"):
        FileTable(("a", "b"), np.array([1]), np.array([1, 2]))


def test_common_prefix_and_repr() -> None:
    table = FileTable.from_files(
        [File("/raw/a_1.tif", 10, 5, None), File("/raw/a_2.tif", 1, 5, None)]
    )
    assert table.common_prefix == "/raw/a_"
    assert repr(table) == "<FileTable: 2 files, 11 bytes, '/raw/a_'...>"
    assert FileTable.from_files([]).common_prefix == ""


def test_paths_leave_the_archive_out() -> None:
    urls = ["zip://raw/a.tif::/data/x.zip", "/data/raw/b.tif"]
    table = FileTable.from_files([File(url, 1, 1, None) for url in urls])
    assert table.paths == ("zip:///data/x.zip/raw/a.tif", "/data/raw/b.tif")


@given(st.sampled_from(["zip://a/b.tif", "tar://b.tif"]), st.sampled_from(["/x", "s3://b/x"]))
def test_split_chain_parts_make_the_url(path: str, archive: str) -> None:
    assert split_chain(f"{path}::{archive}") == (path, f"::{archive}")
    assert split_chain(f"filecache::{path}::{archive}") == (f"filecache::{path}", f"::{archive}")


@pytest.mark.parametrize(
    ("now", "is_same"),
    [
        (File("/a", 10, 5, None), True),
        (File("/a", -1, -1, '"e"'), True),
        (File("/a", 11, 5, None), False),
        (File("/a", 10, 6, None), False),
        (File("/b", 10, 5, None), False),
        (File("/a", 10, 5, None, 8), False),
    ],
    ids=["same", "nothing to compare", "size", "mtime", "url", "ctime"],
)
def test_agrees_with_compares_what_both_know(now: File, is_same: bool) -> None:
    file = File("/a", 10, 5, None, 7)
    assert file.agrees_with(now) is is_same
    assert now.agrees_with(file) is is_same


def test_agrees_with_reads_an_etag_with_or_without_quotes() -> None:
    listed = File("s3://b/k", 10, -1, "e")
    assert listed.agrees_with(File("s3://b/k", 10, -1, '"e"'))
    assert not listed.agrees_with(File("s3://b/k", 10, -1, '"f"'))


def test_a_weak_etag_is_the_strong_one():
    listed = File("http://host/a.tif", 10, -1, '"5d41"')
    assert listed.agrees_with(File("http://host/a.tif", 10, -1, 'W/"5d41"'))
    assert not listed.agrees_with(File("http://host/a.tif", 10, -1, 'W/"5d42"'))
