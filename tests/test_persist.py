"""A source that reads its copy: the same array with the same names, whatever the options."""

# ruff: noqa: F811 - pytest hands fixtures in by their names

from __future__ import annotations

import pickle
from math import prod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import dask.array as da
import intake
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intake_tiffstack import TiffStackSource
from intake_tiffstack.errors import FilesNotFoundError, OptionError
from intake_tiffstack.persist import PersistedStack
from part_reads import no_part_read
from persist_scans import open_scan, scan, source, store, write_scan  # noqa: F401 - fixtures
from shared_data import SHARED, needs_shared, read_rows

pytestmark = pytest.mark.filterwarnings("ignore:Shell command not executed:UserWarning")


def reads_copy(source: TiffStackSource) -> bool:
    """Return whether no file is read when all pixels are computed."""
    array = source.to_dask()
    with no_part_read():
        try:
            array.compute(scheduler="sync")
        except AssertionError:
            return False
    return True


def without_copy(source: TiffStackSource) -> TiffStackSource:
    return source(persist_mode="never")


# --- persist, and what is read then -------------------------------------------------------------


def test_after_persist_the_copy_is_read_in_place_of_the_files(source, scan):
    before = source.to_dask()
    assert not reads_copy(source)
    source.persist()
    after = source.to_dask()
    assert reads_copy(source)
    assert not reads_copy(without_copy(source))
    np.testing.assert_array_equal(after.compute(), scan)
    assert after.name != before.name, "two arrays of one name would be taken for each other"
    np.testing.assert_array_equal((after - before).compute(), np.zeros_like(scan))


def test_what_persist_returns_reads_the_copy_alone(source, scan):
    persisted = source.persist()
    assert persisted.is_persisted
    assert not source.is_persisted
    assert source.has_been_persisted
    np.testing.assert_array_equal(persisted.read(), scan)
    assert persisted.to_dask().name == source.get_persisted().to_dask().name
    with patch("intake_tiffstack.persist.choose.take_listing", side_effect=AssertionError):
        assert reads_copy(persisted), "the files were looked at"


def test_nothing_is_persisted_before(source):
    assert not source.has_been_persisted
    for attempt in (source.get_persisted, source.repersist, source(persist_mode="always").to_dask):
        with pytest.raises(FilesNotFoundError, match=r"no persisted copy of .*/raw/\*.tif at"):
            attempt()
    source.unpersist()  # nothing to do


def test_unpersist_goes_back_to_the_files(source, scan, store):
    persisted = source.persist()
    source.unpersist()
    assert not source.has_been_persisted
    assert not reads_copy(source)
    np.testing.assert_array_equal(source.read(), scan)
    assert [path for path in store.rglob("*") if path.is_file()] == []
    with pytest.raises(FilesNotFoundError, match="no persisted copy"):
        persisted.to_dask()


def test_what_is_known_of_a_copy_needs_no_files(source, tmp_path):
    source.persist()
    (tmp_path / "raw").rename(tmp_path / "away")
    for name, expected in (
        ("dims", ("c", "t", "z", "y", "x")),
        ("sizes", {"c": 2, "t": 3, "z": 4, "y": 8, "x": 6}),
        ("scale", {"y": 0.5, "x": 0.5}),
        ("channel_names", ["488", "561"]),
    ):
        assert getattr(open_scan(tmp_path / "raw", persist_mode="always"), name) == expected


def test_persisting_says_where_and_how_much_once(source, store, capsys):
    source.persist()
    reported = capsys.readouterr().out.splitlines()
    assert len(reported) == 1
    assert str(store) in reported[0]
    assert "2.25 kiB" in reported[0]
    source.persist(progress=False)
    assert capsys.readouterr().out == ""


def test_progress_is_reported_in_bytes(source, scan):
    seen: list[tuple[int, int]] = []
    source.persist(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (scan.nbytes, scan.nbytes)


# --- options that apply on top ------------------------------------------------------------------

ON_TOP: dict[str, st.SearchStrategy[Any]] = {
    "chunks": st.sampled_from(["auto", "file", "page", {"t": 1, "z": 3}, {"y": -1}, 5, "1 kB"]),
    "coords": st.sampled_from(
        [{"c": "wave"}, {"t": [0.5, 1, 2]}, {"t": np.arange("2020", "2023", dtype="M8[Y]")}]
    ),
    "channel_names": st.just(["GFP", "RFP"]),
    "scale": st.dictionaries(st.sampled_from("tzyx"), st.sampled_from([0.5, 3, -2]), max_size=3),
    "translation": st.dictionaries(st.sampled_from("zyx"), st.sampled_from([1, -7.5]), max_size=2),
    "units": st.dictionaries(st.sampled_from("zyx"), st.sampled_from(["um", "nm"]), max_size=2),
    "validate": st.sampled_from(["all", "template"]),
}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=st.fixed_dictionaries({}, optional=ON_TOP))
def test_names_coordinates_and_chunks_are_those_of_the_files(source, scan, options):
    if not source.has_been_persisted:
        source.persist(progress=False)
    over_copy = source(**options)
    over_files = without_copy(over_copy)
    labelled = over_copy.to_xarray()
    assert labelled.identical(over_files.to_xarray())
    assert labelled.data.name == over_copy.to_dask().name
    assert isinstance(over_copy._in_use, PersistedStack)
    assert over_copy.discover()["metadata"] == over_files.discover()["metadata"]
    if options.get("chunks", "auto") not in ("auto", "1 kB"):  # those follow the copy's own
        assert over_copy.to_dask().chunks == over_files.to_dask().chunks
    assert over_copy.to_xarray(chunks=None).identical(labelled)


def test_arrays_of_other_chunks_have_other_names(source):
    source.persist()
    names = {source(chunks=chunks).to_dask().name for chunks in ("auto", "file", "page", 3)}
    assert len(names) == 4


class Tagged(np.ndarray):
    """Arrays of another library."""


class TaggingDevice:
    def empty_host(self, shape, dtype):
        return np.empty(shape, dtype)

    def to_device(self, host):
        return host.view(Tagged)

    def meta(self, ndim, dtype):
        return np.empty((0,) * ndim, dtype).view(Tagged)


def test_the_copy_is_delivered_as_the_array_type_that_is_asked_for(source, scan):
    source.persist()
    with dask.config.set({"tiffstack.allow_code": True}):
        tagged = source(arraytype="test_persist:TaggingDevice")
        array = tagged.to_dask()
        assert isinstance(array._meta, Tagged)
        assert array.name != source.to_dask().name
        block = array.blocks[0].compute()
        assert type(block).__name__ == "Tagged"
        np.testing.assert_array_equal(block.view(np.ndarray), scan)
        assert reads_copy(tagged)


def test_labels_rename_positions_of_the_copy(tmp_path, store):
    for side in "LR":
        tifffile.imwrite(tmp_path / f"{side}.tif", np.full((4, 5), ord(side), np.uint8))
    source = TiffStackSource(f"{tmp_path}/*.tif", pattern="{side}.tif", labels={"side": ["R", "L"]})
    source.persist()
    renamed = source(labels={"side": {"R": "right", "L": "left"}})
    assert reads_copy(renamed)
    labelled = renamed.to_xarray()
    assert labelled.side.values.tolist() == ["right", "left"]
    assert labelled[:, 0, 0].values.tolist() == [ord("R"), ord("L")]
    assert not reads_copy(source(labels={"side": ["L", "R"]})), "another order is other pixels"


def test_another_selection_is_another_copy(source, scan):
    source.persist()
    chosen = source(sel={"c": 1})
    assert not reads_copy(chosen)
    np.testing.assert_array_equal(chosen.read(), scan[1:])


@pytest.mark.parametrize(
    "how",
    [
        {"zarr_format": 2, "chunks": (1, 1, 3, 8, 4)},
        {"zarr_format": 3, "chunks": (1, 1, 3, 8, 4)},
        {"shards": (1, 3, 4, 8, 6)},
    ],
    ids=["v2", "v3", "shards"],
)
def test_any_way_of_storing_reads_the_same(source, scan, how):
    source.persist(**how)
    array = source.to_dask()
    for index in np.s_[..., :, :], np.s_[1, 2, 0], np.s_[:, ::-2, 1:3, ::3, [5, 0]]:
        expected = da.from_array(scan)[index].compute()
        np.testing.assert_array_equal(array[index].compute(), expected)


# --- collections of every kind ------------------------------------------------------------------


def _extended(folder: Path) -> dict[str, Any]:
    for z, depth in enumerate((3, 3, 2)):
        tifffile.imwrite(folder / f"z{z}.tif", np.full((depth, 8, 6), z, np.uint8),
                         photometric="minisblack")  # fmt: skip
    return {"pattern": "z{z:d}.tif", "file_dims": "zyx", "concat_dim": "z"}


def _with_holes(folder: Path) -> dict[str, Any]:
    for c, t in ((0, 0), (0, 1), (1, 1)):
        tifffile.imwrite(folder / f"c{c}_t{t}.tif", np.full((8, 6), 1 + c + t, np.float32))
    return {"pattern": "c{c:d}_t{t:d}.tif", "missing": "mask", "fill_value": 7}


def _times(folder: Path) -> dict[str, Any]:
    for day in ("20240101", "20240103", "20240105"):
        tifffile.imwrite(folder / f"{day}_a.tif", np.full((8, 6, 3), int(day[-1]), np.uint8))
    return {"pattern": "{t:%Y%m%d}_{who}.tif", "dims": ["y", "x", "sample", "t"]}


def _ome(folder: Path) -> dict[str, Any]:
    metadata = {"axes": "CZYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 0.25,
                "PhysicalSizeXUnit": "µm"}  # fmt: skip
    for t in range(2):
        tifffile.imwrite(folder / f"t{t}.ome.tif", np.full((2, 3, 8, 6), t, np.uint16), ome=True,
                         metadata=metadata)  # fmt: skip
    return {"pattern": "t{t:d}.ome.tif"}


def _in_order(folder: Path) -> dict[str, Any]:
    for i in range(12):
        tifffile.imwrite(folder / f"page{i}.tif", np.full((8, 6), i, np.int16))
    return {}


def _one_file(folder: Path) -> dict[str, Any]:
    tifffile.imwrite(folder / "one.tif", np.arange(96, dtype=np.uint32).reshape(2, 8, 6))
    return {"urlpath": f"{folder}/one.tif"}


@pytest.mark.parametrize(
    "make", [_extended, _with_holes, _times, _ome, _in_order, _one_file], ids=lambda f: f.__name__
)
def test_a_collection_of_any_kind_comes_back_whole(make, tmp_path, store):
    folder = tmp_path / "raw"
    folder.mkdir()
    source = TiffStackSource(**{"urlpath": f"{folder}/*.tif", **make(folder)})
    expected = source.to_xarray()
    metadata = source.discover()["metadata"]
    source.persist()
    found = source.to_xarray()
    assert found.identical(expected)
    assert found.dtype == expected.dtype
    assert {k: c.attrs for k, c in found.coords.items()} == {
        k: c.attrs for k, c in expected.coords.items()
    }
    assert source.discover()["metadata"] == metadata
    assert reads_copy(source)


SMALL = [row for row in read_rows("COLLECTIONS.csv") if row["stitched_shape"]]
SMALL = [row for row in SMALL if prod(map(int, row["stitched_shape"].split("x"))) < 3e6]


@needs_shared
@pytest.mark.parametrize(
    "row", SMALL, ids=lambda row: f"{row['collection']}-{row['stitched_shape']}"
)
def test_a_real_collection_comes_back_whole(row, store):
    source = TiffStackSource(
        f"{SHARED}/{row['collection']}/**/*",
        pattern=row["regex_on_path_inside_collection"],
        concat_dim=row["filename_axes"].split(),
        unmatched="ignore",
    )
    expected = source.to_xarray()
    metadata = source.discover()["metadata"]
    source.persist()
    assert source.to_xarray().identical(expected)
    assert source.discover()["metadata"] == metadata
    assert reads_copy(source)


# --- decided at each use ------------------------------------------------------------------------


def test_one_source_sees_a_copy_come_and_go(source, tmp_path):
    other = open_scan(tmp_path / "raw", scale={"z": 2})
    assert not reads_copy(source)
    other.persist()
    assert reads_copy(source), "the copy of another source of the same pixels"
    other.unpersist()
    assert not reads_copy(source)


def test_modes_of_catalogs_hold_for_their_entries(tmp_path, scan, store):
    (tmp_path / "lab.yml").write_text(
        "sources:\n  scan:\n    driver: tiffstack\n    args:\n"
        '      urlpath: "{{ CATALOG_DIR }}/raw/*.tif"\n'
        '      pattern: "c{c:d}_t{t:d}_{wave:d}nm.tif"\n      concat_dim: [c, t]\n'
    )
    path = str(tmp_path / "lab.yml")
    always = intake.open_catalog(path, persist_mode="always").scan
    with pytest.raises(FilesNotFoundError, match="no persisted copy"):
        always.to_dask()
    intake.open_catalog(path).scan.persist()
    assert reads_copy(always)
    assert reads_copy(intake.open_catalog(path).scan)
    never = intake.open_catalog(path, persist_mode="never").scan
    assert not reads_copy(never)
    assert reads_copy(never(persist_mode="default")) is False, "default asks the catalog"
    assert reads_copy(never.get_persisted()), "the option wins"
    assert never.get_persisted().name == "scan"


def test_chunks_that_are_read_one_by_one_are_of_one_array(source, scan):
    source.persist()
    parts = list(source(chunks="file").read_chunked())
    assert [part.shape for part in parts] == [(1, 1, 4, 8, 6)] * 6
    np.testing.assert_array_equal(np.concatenate(parts, axis=1)[0], scan.reshape(6, 4, 8, 6))
    np.testing.assert_array_equal(source(chunks="file").read_partition((1, 2, 0, 0, 0)),
                                  scan[1:, 2:])  # fmt: skip


def test_sources_and_arrays_over_a_copy_are_pickled(source, scan):
    persisted = source.persist()
    again = pickle.loads(pickle.dumps(persisted))
    assert again.is_persisted
    assert again.to_dask().name == persisted.to_dask().name
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source.to_dask())).compute(), scan)
    packed = pickle.dumps(source.to_dask())
    assert b"c0_t0" not in packed, "the names of the files need not travel"


def test_export_writes_what_to_dask_gives(source, scan, tmp_path):
    source.persist()
    with no_part_read():
        copy = source.get_persisted().export(str(tmp_path / "copy.zarr"), progress=False)
    np.testing.assert_array_equal(copy.read(), scan)
    assert copy.to_xarray().dims == ("c", "t", "z", "y", "x")
    with dask.config.set({"tiffstack.allow_code": True}):
        tagged = source(arraytype="test_persist:TaggingDevice")
        again = tagged.export(str(tmp_path / "again.zarr"), progress=False)
        assert isinstance(again.to_dask()._meta, Tagged), "a copy is delivered as its source was"


def test_the_yaml_of_a_persisted_source_opens_it(source, scan):
    import yaml

    spelled = yaml.safe_load(source.persist().yaml())["sources"]["tiffstack"]
    assert spelled["args"]["persist_mode"] == "always"
    np.testing.assert_array_equal(TiffStackSource(**spelled["args"]).read(), scan)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"ttl": -1}, "ttl must be a number of seconds or None, but got -1"),
        ({"ttl": "1h"}, "ttl must be"),
        ({"ttl": float("nan")}, "ttl must be"),
        ({"ttl": True}, "ttl must be"),
        ({"ttl": 1e12}, "ttl must be"),
        ({"chunk": (1,)}, "did you mean 'chunks'"),
        ({"overwrite": True}, "unknown option of persist"),
        ({"storage_options": {}}, "persist_storage_options"),
        ({"compressor": object()}, "cannot remember"),
        ({"verify": "none"}, "verify must be"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else None,
)
def test_wrong_arguments_are_refused(source, store, arguments, match):
    with pytest.raises(OptionError, match=match):
        source.persist(**arguments)
    assert not source.has_been_persisted


def test_a_source_that_fills_what_it_cannot_read_is_not_persisted(source):
    with pytest.raises(OptionError, match="on_error='fill' is not persisted"):
        source(on_error="fill").persist()
    source.persist()
    assert reads_copy(source(on_error="fill")), "a whole copy is as good for it"
