"""Sets of OME-TIFFs opened by one file: tifffile's series, and the pixels that were written."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import fsspec
import intake
import numpy as np
import pytest
import tifffile
import yaml
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.storage import FsspecStore

from intake_tiffstack import TiffStackSource, TiffStackZarrSource, open_stack
from intake_tiffstack.errors import (
    FilesNotFoundError,
    LayoutError,
    MissingFilesError,
    OptionError,
    TiffStackWarning,
)
from intake_tiffstack.layout.planes import PlaneMap
from intake_tiffstack.references import open_references
from ome_sets import SCHEMA, uuid_of, write_set
from servers import serve_s3
from shared_data import SHARED, needs_shared


def opened(path: Path | str, **options: Any) -> Any:
    return open_stack(str(path), sets="ome", **options)


@pytest.mark.parametrize("has_uuid", [True, False], ids=["uuid", "base-name"])
@pytest.mark.parametrize("reverse", [False, True], ids=["in-order", "reversed"])
@pytest.mark.parametrize(
    ("along", "order"),
    [("T", "XYZCT"), ("C", "XYCTZ"), ("Z", "XYCZT"), ("TC", "XYTZC"), ("CZ", "XYZTC")],
)
def test_any_file_opens_the_whole_set(
    tmp_path: Path, along: str, order: str, reverse: bool, has_uuid: bool
) -> None:
    _, pixels = write_set(tmp_path, along, order=order, reverse=reverse, has_uuid=has_uuid)
    names = sorted(tmp_path.glob("*.ome.tif"))
    for path in (names[0], names[-1]):
        stack = opened(path)
        assert stack.dims == (*reversed(order[2:].lower()), "y", "x")
        found = stack.to_xarray().transpose("t", "c", "z", "y", "x")
        np.testing.assert_array_equal(found.values, pixels)
        np.testing.assert_array_equal(tifffile.imread(path), stack.read())
        assert stack.channel_names == ["ch0", "ch1"]
        assert stack.scale == {"z": 5.0, "y": 0.5, "x": 0.5}
    assert len(stack.files) == len(names)
    assert opened(tmp_path).shape == stack.shape
    swapped = opened(names[0], dims="xzyct")
    np.testing.assert_array_equal(swapped.read(), pixels.transpose(4, 2, 3, 1, 0))
    assert "in 3 files" in str(opened(names[0]).report()) or along != "T"


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_region_is_that_of_the_pixels(tmp_path: Path, data: st.DataObject) -> None:
    if not any(tmp_path.iterdir()):
        write_set(tmp_path, "CZ", reverse=True)
    stack = opened(tmp_path / "exp_C0_Z0.ome.tif")
    whole = np.arange(3 * 2 * 4 * 64, dtype="u2").reshape(3, 2, 4, 8, 8)
    index = tuple(data.draw(st.one_of(st.integers(0, n - 1), st.slices(n))) for n in stack.shape)
    np.testing.assert_array_equal(stack.host_array[index], whole[index])


@pytest.mark.parametrize("n_lead", [1, 2])
@given(data=st.data())
def test_runs_of_pages_cover_each_plane_once(n_lead: int, data: st.DataObject) -> None:
    shape = (3, 7)[:n_lead]
    size = int(np.prod(shape))
    rows = np.array(data.draw(st.lists(st.integers(-1, 1), min_size=size, max_size=size)))
    pages = np.array(data.draw(st.lists(st.integers(0, 5), min_size=size, max_size=size)))
    planes = PlaneMap(rows.reshape(shape).astype("i4"), pages.reshape(shape), (6, 6))
    found = np.full((*shape, 2), -1)
    for run in planes.runs([range(n) for n in shape]):
        lead, along = run.into[:-1], run.into[-1]
        assert isinstance(along, slice)
        assert len(run.pages) == along.stop - along.start
        for place, page in zip(range(along.start, along.stop), run.pages, strict=True):
            assert (found[(*lead, place)] == -1).all()
            found[(*lead, place)] = run.row, page
    np.testing.assert_array_equal(found[..., 0], planes.rows)
    np.testing.assert_array_equal(found[..., 1][planes.rows >= 0], planes.pages[planes.rows >= 0])


def test_the_companion_opens_the_set_and_so_does_a_file_that_points_to_it(tmp_path: Path) -> None:
    _, pixels = write_set(tmp_path, "T", companion="exp.companion.ome")
    for name in ("exp.companion.ome", "exp_T2.ome.tif"):
        stack = opened(tmp_path / name)
        np.testing.assert_array_equal(stack.read(), pixels)
        assert stack.channel_names == ["ch0", "ch1"]
    alone = open_stack(str(tmp_path / "exp_T1.ome.tif"))
    with pytest.warns(TiffStackWarning, match=r"exp.companion.ome: sets='ome'"):
        _ = alone.shape
    (tmp_path / "exp.companion.ome").unlink()
    with pytest.raises(FilesNotFoundError, match=r"metadata of its set in exp.companion.ome"):
        _ = opened(tmp_path / "exp_T1.ome.tif").shape


def test_without_the_option_a_warning_names_the_siblings(tmp_path: Path) -> None:
    write_set(tmp_path, "T")
    stack = open_stack(str(tmp_path / "exp_T1.ome.tif"))
    with pytest.warns(TiffStackWarning, match=r"2 more files .*exp_T0.*sets='ome'"):
        assert stack.sizes == {"c": 2, "z": 4, "y": 8, "x": 8}
    (tmp_path / "exp_T0.ome.tif").unlink()
    (tmp_path / "exp_T2.ome.tif").unlink()
    assert open_stack(str(tmp_path / "exp_T1.ome.tif")).shape == (2, 4, 8, 8)  # none is there


def test_a_missing_sibling_is_a_hole(tmp_path: Path) -> None:
    _, pixels = write_set(tmp_path, "T")
    (tmp_path / "exp_T1.ome.tif").unlink()
    path = tmp_path / "exp_T0.ome.tif"
    with pytest.raises(MissingFilesError, match=r"8 of 24 planes.*t=1, c=0, z=0.*exp_T1.ome.tif"):
        _ = opened(path).shape
    pixels[1] = 7
    np.testing.assert_array_equal(opened(path, missing="fill", fill_value=7).read(), pixels)
    masked = opened(path, missing="mask").to_xarray()
    np.testing.assert_array_equal(masked.is_missing.all(["c", "z"]), [False, True, False])
    assert "exp_T1.ome.tif" in str(opened(path).report())
    with pytest.raises(OptionError, match="trim"):
        _ = opened(path, missing="trim").shape


def test_renamed_siblings_are_found_by_their_uuid(tmp_path: Path) -> None:
    _, pixels = write_set(tmp_path, "T")
    (tmp_path / "exp_T1.ome.tif").rename(tmp_path / "other.tif")
    stack = opened(tmp_path / "exp_T0.ome.tif")
    with pytest.warns(TiffStackWarning, match=r"other.tif is the file that its set calls exp_T1"):
        np.testing.assert_array_equal(stack.read(), pixels)


def test_siblings_whose_names_were_exchanged_give_the_right_planes(tmp_path: Path) -> None:
    _, pixels = write_set(tmp_path, "T")
    one, two = tmp_path / "exp_T1.ome.tif", tmp_path / "exp_T2.ome.tif"
    one.rename(tmp_path / "x")
    two.rename(one)
    (tmp_path / "x").rename(two)
    stack = opened(tmp_path / "exp_T0.ome.tif")
    with pytest.warns(TiffStackWarning, match="their UUID is the same"):
        np.testing.assert_array_equal(stack.read(), pixels)


def test_files_of_another_folder_count_by_uuid_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    _, pixels = write_set(data, "T", companion="exp.companion.ome")
    (tmp_path / "secret").mkdir()
    companion = data / "exp.companion.ome"
    text = companion.read_text()
    for parent, is_right in (("../secret", True), ("../secret", False)):
        name = "exp_T1.ome.tif" if is_right else "plain.tif"
        companion.write_text(
            text.replace('FileName="exp_T1.ome.tif"', f'FileName="{parent}/{name}"')
        )
        if is_right:
            (data / name).rename(tmp_path / "secret" / name)
            np.testing.assert_array_equal(opened(companion).read(), pixels)
        else:
            tifffile.imwrite(tmp_path / "secret" / name, pixels[1].reshape(8, 8, 8))
            with pytest.raises(MissingFilesError, match=r"absent: plain.tif"):
                _ = opened(companion).shape
    for far in (str(tmp_path / "secret" / "plain.tif"), "http://127.0.0.1:1/plain.tif"):
        companion.write_text(text.replace('FileName="exp_T1.ome.tif"', f'FileName="{escape(far)}"'))
        with pytest.raises(MissingFilesError, match=r"absent: plain.tif"):
            _ = opened(companion).shape


def test_entities_in_a_companion_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, "T", companion="exp.companion.ome")
    path = tmp_path / "exp.companion.ome"
    bomb = '<!DOCTYPE OME [<!ENTITY a "b">]><OME'
    path.write_text(path.read_text().replace("<OME", bomb, 1))
    with pytest.raises(OSError, match="entities"):
        _ = opened(path).shape


def test_planes_anywhere_in_the_files_and_several_images(tmp_path: Path) -> None:
    """As Micro-Manager cuts a run at 4 GB: between any two planes."""
    pixels = np.random.default_rng(0).integers(0, 999, (2, 3, 2, 8, 9), dtype="u2")
    flat = pixels.reshape(12, 8, 9)
    names = ["run.ome.tif", "run_1.ome.tif", "run_2.ome.tif"]
    cuts = [0, 5, 6, 12]
    images = ""
    for position in range(2):
        data = ""
        for i in range(6):
            number = position * 6 + i
            file = int(np.searchsorted(cuts, number, side="right")) - 1
            data += (
                f'<TiffData FirstT="{i // 2}" FirstC="{i % 2}" FirstZ="0" PlaneCount="1" '
                f'IFD="{number - cuts[file]}"><UUID FileName="{names[file]}">'
                f"{uuid_of(names[file])}</UUID></TiffData>"
            )
        images += (
            f'<Image ID="Image:{position}" Name="Pos{position}"><Pixels ID="Pixels:{position}" '
            'DimensionOrder="XYCZT" Type="uint16" SizeX="9" SizeY="8" SizeZ="1" SizeC="2" '
            f'SizeT="5">{data}</Pixels></Image>'  # the run ended before its five time points
        )
    for name, start, end in zip(names, cuts[:-1], cuts[1:], strict=True):
        tifffile.imwrite(
            tmp_path / name,
            flat[start:end],
            photometric="minisblack",
            metadata=None,
            compression="zlib" if start else None,
            description=f'<OME UUID="{uuid_of(name)}" xmlns="{SCHEMA}">{images}</OME>',
        )
    stack = opened(tmp_path / names[0], series="all")
    with pytest.warns(TiffStackWarning, match="5 positions along t"):
        assert stack.sizes == {"position": 2, "t": 3, "c": 2, "y": 8, "x": 9}
    np.testing.assert_array_equal(stack.read(), pixels)
    np.testing.assert_array_equal(
        stack.host_array[:, 1:, ::-1, 2, ::3], pixels[:, 1:, ::-1, 2, ::3]
    )
    second = opened(tmp_path / names[0], series=1)
    with pytest.warns(TiffStackWarning, match="5 positions along t"):
        np.testing.assert_array_equal(second.read(), pixels[1])
    first = opened(tmp_path / names[2])
    with pytest.warns(
        TiffStackWarning, match=r"1 more images that are not opened.*Pos1|5 positions"
    ):
        np.testing.assert_array_equal(first.read(), pixels[0])
    with pytest.raises(OptionError, match="has 2 images"):
        _ = opened(tmp_path / names[0], series=2).shape


@pytest.mark.parametrize(
    "options", [{"pattern": "exp_T{t:d}.ome.tif"}, {"concat_dim": "t"}, {"place": "georeference"}]
)
def test_options_that_contradict_a_set_are_refused(tmp_path: Path, options: Any) -> None:
    write_set(tmp_path, "T")
    with pytest.raises(OptionError, match=r"sets='ome'"):
        _ = opened(tmp_path, **options).shape


def test_with_a_pattern_siblings_are_left_alone(tmp_path: Path) -> None:
    pattern, pixels = write_set(tmp_path, "T")
    stack = open_stack(str(tmp_path / "exp_T1.ome.tif"), pattern=pattern)
    np.testing.assert_array_equal(stack.read(), pixels[1:2])


def test_files_of_no_or_another_set_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, "T")
    tifffile.imwrite(tmp_path / "zzz.tif", np.zeros((8, 8), "u2"))
    with pytest.raises(OptionError, match=r"1 TIFFs that are not of the set.*zzz.tif"):
        _ = opened(tmp_path).shape
    assert opened(tmp_path, exclude="zzz*").shape == (3, 2, 4, 8, 8)
    with pytest.raises(OptionError, match="needs the OME-XML"):
        _ = opened(tmp_path / "zzz.tif").shape
    tifffile.imwrite(tmp_path / "exp_T1.ome.tif", np.zeros((8, 9), "u2"))
    known = pytest.warns(TiffStackWarning, match="has the UUID .* but its set knows it as")
    with known, pytest.raises(LayoutError, match="not alike"):
        _ = opened(tmp_path / "exp_T0.ome.tif").shape


@needs_shared
def test_a_public_set_is_tifffiles_series() -> None:
    assert SHARED is not None
    folder = SHARED / "sequences/ometiff_multifile_master"
    stack = opened(folder / "multifile-Z3.ome.tiff")
    expected = tifffile.imread(folder / "multifile-Z1.ome.tiff")
    assert expected.shape == stack.shape == (5, 24, 18)
    np.testing.assert_array_equal(stack.read(), expected)
    copy = pickle.loads(pickle.dumps(stack.host_array))
    np.testing.assert_array_equal(copy[2:4], expected[2:4])


def test_sets_in_a_store_export_and_persist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pixels = write_set(tmp_path, "T", companion="exp.companion.ome")
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path}/", "/file-set/", recursive=True)
    try:
        stack = opened("memory://file-set/exp.companion.ome")
        np.testing.assert_array_equal(stack.read(), pixels)
        stack.export(tmp_path / "copy.zarr")
        np.testing.assert_array_equal(
            TiffStackZarrSource(str(tmp_path / "copy.zarr")).read(), pixels
        )
    finally:
        memory.rm("/file-set", recursive=True)
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    source = TiffStackSource(str(tmp_path / "exp_T0.ome.tif"), sets="ome")
    np.testing.assert_array_equal(source.persist().read(), pixels)
    again = TiffStackSource(str(tmp_path / "exp_T0.ome.tif"), sets="ome")
    assert again.has_been_persisted
    np.testing.assert_array_equal(again.read(), pixels)


def test_a_catalog_entry_opens_a_set_on_s3(tmp_path: Path) -> None:
    _, pixels = write_set(tmp_path, "TC")
    with serve_s3() as server:
        server.put("sets", {f"a/{path.name}": path.read_bytes() for path in tmp_path.iterdir()})
        entry = {
            "driver": "tiffstack",
            "args": {
                "urlpath": "s3://sets/a/exp_T1_C0.ome.tif",
                "storage_options": server.storage_options,
                "sets": "ome",
            },
        }
        catalog = tmp_path / "catalog.yml"
        catalog.write_text(yaml.safe_dump({"sources": {"run": entry}}))
        found = intake.open_catalog(str(catalog)).run.to_dask()
        assert found.shape == (3, 2, 4, 8, 8)
        np.testing.assert_array_equal(found.compute(), pixels)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("along", ["T", "CZ", "TCZ"])
def test_a_set_has_references_to_its_planes(
    tmp_path: Path, along: str, compression: str | None
) -> None:
    _, pixels = write_set(tmp_path, along, reverse=True)
    for path in tmp_path.glob("*.tif") if compression else ():
        with tifffile.TiffFile(path) as tif:
            planes, xml = tif.asarray(key=slice(None)), tif.pages[0].description
        options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
        tifffile.imwrite(path, planes, description=xml, compression=compression, **options)
    first = min(tmp_path.glob("*.tif"))
    stack = open_stack(str(first), sets="ome", dims="ctzyx")
    url = str(tmp_path / "set.json")
    stack.export(url, format="references", verify="all")
    filesystem = fsspec.filesystem("reference", fo=url, asynchronous=True)
    group = zarr.open_group(FsspecStore(filesystem, read_only=True), mode="r")
    np.testing.assert_array_equal(group["pixels"][...], pixels.transpose(1, 0, 2, 3, 4))
    max(tmp_path.glob("*.tif")).unlink()
    holes = open_stack(str(first), sets="ome", missing="fill", fill_value=7)
    holes.export(url, format="references", verify="all", overwrite=True)
    array = open_references(url).array.compute()
    np.testing.assert_array_equal(array, holes.read())
    assert (array == 7).any()
