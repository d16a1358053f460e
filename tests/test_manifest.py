"""Every real and every damaged file of the shared data: the pixels of the manifest, or an error.

The manifest holds what tifffile 2026.3.3 made of each file, as a hash of the pixels.
"""

from __future__ import annotations

import hashlib
import tracemalloc
from collections import defaultdict

import numpy as np
import pytest

from intake_tiffstack.errors import TiffStackError, TooLargeError
from intake_tiffstack.header import Header, read_header
from intake_tiffstack.reading.region import read_region
from shared_data import SHARED, needs_shared, read_rows
from tiff_files import listed

pytestmark = needs_shared

Row = dict[str, str]

ROWS: dict[str, list[Row]] = defaultdict(list)
for _row in read_rows("MANIFEST.csv"):
    ROWS[_row["kind"]].append(_row)

OTHERWISE: dict[str, str] = {
    "sequences/ometiff_multifile_master/multifile-Z1.ome.tiff": (
        "its OME-XML names four more files as its planes, which are other cells here"
    ),
}
"""Files whose pixels are not the manifest's, and why."""


def header_of(row: Row) -> Header:
    assert SHARED is not None
    return read_header(listed(SHARED / row["path"]), max_image_bytes=2**36)


def read_all(row: Row) -> tuple[str, str, str]:
    """Return shape, dtype and SHA-256 of all pixels as the manifest writes them."""
    header = header_of(row)
    structure = header.structure
    out = np.empty(structure.shape, structure.dtype)
    read_region(header, structure, tuple(map(range, structure.shape)), out)
    shape = "x".join(map(str, structure.shape))
    return shape, str(structure.dtype), hashlib.sha256(out.data).hexdigest()


def complaint(row: Row) -> str | None:
    """Return what is wrong with how a file is read, None where all is well."""
    expected = (row["shape"], row["dtype"], row["sha256_decoded_array"])
    may_fail = bool(row["exception"]) or row["kind"].startswith("damaged")
    try:
        found = read_all(row)
    except TiffStackError as exc:
        if not may_fail:
            return f"{type(exc).__name__}: {exc}"
        names_file = row["path"] in str(exc) and len(str(exc).splitlines()) <= 3
        return None if names_file else f"the error does not name the file: {exc}"
    if row["exception"]:
        return f"tifffile fails ({row['exception']}), but this reads {found}"
    return None if found == expected else f"{found} is not {expected}"


@pytest.mark.parametrize("kind", ROWS)
def test_pixels_are_those_of_the_manifest_or_an_error_names_the_file(kind: str) -> None:
    complaints = {
        row["path"]: said
        for row in ROWS[kind]
        if row["path"] not in OTHERWISE and (said := complaint(row)) is not None
    }
    assert not complaints


@pytest.mark.parametrize("path", OTHERWISE)
def test_known_departures_are_still_departures(path: str) -> None:
    (row,) = [row for rows in ROWS.values() for row in rows if row["path"] == path]
    assert complaint(row) is not None, f"{path} is as the manifest has it: take it off the list"


@pytest.mark.parametrize("row", ROWS["damaged:huge_declared_size"], ids=lambda row: row["path"])
def test_a_huge_declared_size_is_refused_before_anything_is_allocated(row: Row) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="bytes"):
            header_of(row)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**26


def test_text_in_place_of_an_image_says_what_to_do() -> None:
    for row in ROWS["damaged:lfs_pointer_or_text"]:
        with pytest.raises(TiffStackError) as caught:
            header_of(row)
        is_pointer = "b'vers'" in row["exception"]
        assert ("git lfs pull" in str(caught.value)) == is_pointer
        assert "exclude" in str(caught.value) or is_pointer
