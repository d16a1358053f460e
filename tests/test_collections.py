"""Every real collection opens from its regex to the listed shape and pixels, or is refused."""

from __future__ import annotations

import hashlib
from itertools import product

import numpy as np
import pytest

from intake_tiffstack import open_stack
from intake_tiffstack.errors import LayoutError
from intake_tiffstack.stack import TiffStack
from shared_data import SHARED, needs_shared, read_rows

pytestmark = needs_shared

ROWS = read_rows("COLLECTIONS.csv")
WHOLE = [row for row in ROWS if row["stitched_shape"]]
REFUSED = [row for row in ROWS if not row["stitched_shape"]]


def name_of(row: dict[str, str]) -> str:
    return f"{row['collection'].removeprefix('sequences/')}-{row['n_files_matched']}"


def open_row(row: dict[str, str]) -> TiffStack:
    return open_stack(
        f"{SHARED}/{row['collection']}/**/*",
        pattern=row["regex_on_path_inside_collection"],
        concat_dim=row["filename_axes"].split(),
        unmatched="ignore",
    )


@pytest.mark.parametrize("row", WHOLE, ids=name_of)
def test_a_whole_collection_gives_its_pixels(row):
    stack = open_row(row)
    array = stack.to_dask()
    assert "x".join(map(str, array.shape)) == row["stitched_shape"]
    assert str(array.dtype) == row["stitched_dtype"]
    assert len(stack.collection.files) == int(row["n_files_matched"])
    digest = hashlib.sha256()
    outer = array.shape[: max(0, array.ndim - 4)]  # a collection of 768 MB comes piece by piece
    for place in product(*map(range, outer)):
        digest.update(np.ascontiguousarray(array[place].compute()))
    assert digest.hexdigest() == row["sha256_stitched"]


@pytest.mark.parametrize("row", REFUSED, ids=name_of)
def test_a_ragged_collection_is_refused_with_the_reason(row):
    stack = open_row(row)
    with pytest.raises(LayoutError) as caught:
        stack.to_dask()
    reported = str(caught.value)
    is_ragged = row["complete_grid"] == "False"
    assert ("have no file" in reported) == is_ragged
    assert ("differ in shape" in reported) != is_ragged
    assert "sel" in reported or "missing=" in reported
    assert len(reported.splitlines()) <= 8
    report = stack.report()
    assert not report.is_whole
    assert reported.splitlines()[0] in str(report)


def test_what_the_error_advises_opens_the_rest():
    row = next(r for r in REFUSED if "biomassters" in r["collection"])
    stack = open_stack(
        f"{SHARED}/{row['collection']}/*.tif",
        pattern="{chip}_{sensor}_{month:d}.tif",
        sel={"sensor": "S2"},
    )
    assert stack.sizes == {"chip": 2, "sensor": 1, "month": 3, "y": 32, "x": 32, "sample": 11}


@pytest.mark.parametrize(
    ("folder", "pattern", "sizes"),
    [
        (
            "faim_cv8000_yokogawa",
            "cv8000",
            {"well": 3, "field": 4, "t": 1, "c": 2, "z": 4, "y": 2000, "x": 2000},
        ),
        (
            "neubias_mitocheck_WPTZC",
            "{}--{}--{}--W{well:d}--P{position:d}--T{t:d}--Z{z:d}--C{c}.tif",
            None,
        ),
        (
            "neubias_mitocheck_WPTZC",
            "{}--{}--{}--W{well:d}--P{position:d}--T{t:d}--Z{z:d}--C{}.tif",
            {"well": 1, "position": 1, "t": 30, "z": 1, "y": 190, "x": 211},
        ),
        (
            "openpiv_2image_pair",
            "2image_{pair:1d}{frame:1d}.tif",
            {"frame": 2, "y": 1012, "x": 1008},
        ),
    ],
    ids=["preset", "empty named part", "empty unnamed part", "glued indices"],
)
def test_format_strings_read_real_names(folder, pattern, sizes):
    stack = open_stack(f"{SHARED}/sequences/{folder}", pattern=pattern, unmatched="ignore")
    if sizes is None:
        with pytest.raises(ValueError, match="matches none"):
            stack.to_dask()
    elif folder.startswith("openpiv"):
        # `frame` has a role and is an axis, `pair` has none: two files meet in one place
        with pytest.raises(LayoutError, match="pair"):
            stack.to_dask()
        whole = open_stack(
            f"{SHARED}/sequences/{folder}", pattern=pattern, concat_dim=["pair", "frame"]
        )
        assert whole.sizes == {"pair": 2, **sizes}
    else:
        assert stack.sizes == sizes
