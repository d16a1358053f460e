"""The layout from a table: columns instead of a pattern."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import intake
import numpy as np
import pandas as pd
import pyarrow
import pytest
import tifffile

from intake_tiffstack import TiffStackSource, TiffStackWarning, open_stack
from intake_tiffstack.errors import (
    DuplicateFilesError,
    FilesNotFoundError,
    MissingFilesError,
    OptionError,
)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (3, 2, 5, 6), np.uint16)


@pytest.fixture
def table(tmp_path: Path, pixels: np.ndarray) -> pd.DataFrame:
    """Return a table of files whose names say nothing, in no order."""
    rows = []
    for number, (t, c) in enumerate(np.random.default_rng(1).permutation(list(np.ndindex(3, 2)))):
        tifffile.imwrite(tmp_path / f"{number:x}x{number * 7919}.tif", pixels[t, c])
        rows.append(
            {
                "url": f"{number:x}x{number * 7919}.tif",
                "t": 10 * t,
                "channel": "GD"[c],
                "x": 0.5 * t,
                "when": f"2026-01-0{t + 1}T00:00:00",
            }
        )
    return pd.DataFrame(rows)


def write(table: pd.DataFrame, path: Path) -> str:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    return str(path)


@pytest.mark.parametrize("name", ["files.csv", "files.parquet"])
def test_columns_are_the_axes(
    tmp_path: Path, table: pd.DataFrame, pixels: np.ndarray, name: str
) -> None:
    stack = open_stack(write(table, tmp_path / name))
    assert stack.dims == ("t", "channel", "y", "x")
    np.testing.assert_array_equal(stack.read(), pixels[:, ::-1])  # D before G
    coords = stack.coords
    assert coords["t"].values.tolist() == [0, 10, 20]
    assert coords["channel"].values.tolist() == ["D", "G"]
    assert coords["when"].dims == ("t",)
    assert coords["when"].dtype.kind == "M"
    assert "columns t, channel" in str(stack.report())


@pytest.mark.parametrize(("suffix", "sep", "decimal"), [(".csv", ";", ","), (".tsv", "\t", ".")])
def test_other_delimiters_are_read(
    tmp_path: Path, table: pd.DataFrame, pixels: np.ndarray, suffix: str, sep: str, decimal: str
) -> None:
    path = tmp_path / f"files{suffix}"
    doses = table.rename(columns={"x": "dose"})
    doses.to_csv(path, sep=sep, decimal=decimal, index=False)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.read(), pixels[:, ::-1])
    assert stack.coords["dose"].values.tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("name", ["href", "FileName", "Image DAPI"])
def test_the_column_that_names_files_is_found(
    tmp_path: Path, table: pd.DataFrame, pixels: np.ndarray, name: str
) -> None:
    written = table.rename(columns={"url": name})[["channel", "t", name]]
    stack = open_stack(write(written, tmp_path / "files.csv"))
    np.testing.assert_array_equal(stack.read(), pixels[:, ::-1])
    absolute = written.assign(**{name: [f"{tmp_path}/{url}" for url in written[name]]})
    for frame in absolute, pyarrow.Table.from_pandas(absolute):
        np.testing.assert_array_equal(open_stack(frame).read(), pixels[:, ::-1])


def test_columns_that_name_no_files_are_listed(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(OptionError, match="no column that names the files, but channel, t: call"):
        open_stack(write(table[["channel", "t"]], tmp_path / "files.csv")).to_dask()
    twice = table.rename(columns={"url": "DAPI"}).assign(GFP=table["url"])
    with pytest.raises(OptionError, match=r"several .* \(DAPI, GFP\): call"):
        open_stack(twice)
    with pytest.raises(OptionError, match="has no rows"):
        open_stack(table.iloc[:0])


def test_options_speak_of_columns(tmp_path: Path, table: pd.DataFrame, pixels: np.ndarray) -> None:
    url = write(table, tmp_path / "files.csv")
    stack = open_stack(
        url, concat_dim=["channel", "t"], labels={"channel": ["G", "D"]}, sel={"t": [10, 20]}
    )
    np.testing.assert_array_equal(stack.read(), pixels[1:].swapaxes(0, 1))
    with pytest.raises(OptionError, match="unknown field in concat_dim 'z'"):
        open_stack(url, concat_dim="z").to_dask()


@pytest.mark.parametrize("name", ["again.csv", "again.parquet"])
@pytest.mark.parametrize("concat_dim", [None, ["channel", "t"]])
def test_files_written_out_give_the_same_array(
    tmp_path: Path, pixels: np.ndarray, name: str, concat_dim: list[str] | None
) -> None:
    for t, c in np.ndindex(3, 2):
        tifffile.imwrite(tmp_path / f"{'GD'[c]}_s{t}.tif", pixels[t, c])
    options: dict[str, Any] = {"pattern": "{channel}_s{t:d}.tif", "concat_dim": concat_dim}
    stack = open_stack(f"{tmp_path}/*.tif", **options)
    again = open_stack(write(stack.files, tmp_path / name))
    assert again.dims == stack.dims
    np.testing.assert_array_equal(again.read(), stack.read())
    assert again.coords["channel"].values.tolist() == stack.coords["channel"].values.tolist()


def test_a_table_of_a_row_of_files_stays_a_row(tmp_path: Path, table: pd.DataFrame) -> None:
    urls = [str(tmp_path / url) for url in table["url"]]
    stack = open_stack(urls)
    again = open_stack(write(stack.files, tmp_path / "again.csv"))
    np.testing.assert_array_equal(again.read(), stack.read())


def test_holes_duplicates_and_gaps_in_a_table_are_named(
    tmp_path: Path, table: pd.DataFrame
) -> None:
    with pytest.raises(MissingFilesError, match="1 of 6 cells"):
        open_stack(write(table.iloc[1:], tmp_path / "a.csv")).to_dask()
    with pytest.raises(DuplicateFilesError):
        open_stack(write(table.assign(t=0), tmp_path / "b.csv")).to_dask()
    twice = pd.concat([table, table.iloc[:1].assign(t=99)])
    with pytest.raises(OptionError, match="rows 2 and 8 both name"):
        open_stack(write(twice, tmp_path / "c.csv")).to_dask()
    table.loc[2, "channel"] = None
    with pytest.raises(OptionError, match="nothing in column 'channel' for 1 of 6 files"):
        open_stack(write(table, tmp_path / "d.csv")).to_dask()
    gone = table.assign(channel="D", t=range(6), url=["no.tif", *table["url"][1:]])
    with pytest.raises(FilesNotFoundError, match=r"no\.tif"):
        open_stack(write(gone, tmp_path / "e.csv")).to_dask()


def test_numbers_with_leading_zeros_stay_text(tmp_path: Path, table: pd.DataFrame) -> None:
    table["well"] = "010"
    stack = open_stack(write(table, tmp_path / "files.csv"))
    assert stack.coords["well"].values.tolist() == ["010"]


def test_a_pattern_wins_over_columns(tmp_path: Path, table: pd.DataFrame) -> None:
    stack = open_stack(write(table, tmp_path / "files.csv"), pattern="{i:d}x{}.tif")
    assert stack.dims == ("i", "y", "x")


def test_a_persisted_table_is_stale_once_its_columns_change(
    tmp_path: Path, table: pd.DataFrame, pixels: np.ndarray
) -> None:
    url = write(table, tmp_path / "files.csv")
    source = TiffStackSource(url, sel={"t": [0, 10]})
    source.persist()
    np.testing.assert_array_equal(TiffStackSource(url, sel={"t": [0, 10]}).read(), pixels[:2, ::-1])
    table["t"] = 20 - table["t"]
    write(table, tmp_path / "files.csv")
    with pytest.warns(TiffStackWarning, match="stale"):
        array = TiffStackSource(url, sel={"t": [0, 10]}).read()
    np.testing.assert_array_equal(array, pixels[[2, 1]][:, ::-1])
    source.unpersist()


def test_stac_items_are_a_table(tmp_path: Path, pixels: np.ndarray) -> None:
    items = []
    for t in range(3):
        assets: dict[str, Any] = {"thumbnail": {"href": "x.png", "type": "image/png"}}
        for b in range(2):
            tifffile.imwrite(tmp_path / f"{t}_{b}.tif", pixels[t, b])
            assets[f"B{b + 1}"] = {"href": f"{tmp_path}/{t}_{b}.tif", "type": "image/tiff"}
        when = pd.Timestamp(f"2026-0{t + 1}-01T10:00:00Z")
        items.append(
            {"id": f"scene{t}", "datetime": when, "assets": assets, "stac_version": "1.1.0"}
        )
    pd.DataFrame(items).to_parquet(tmp_path / "items.parquet")
    stack = open_stack(str(tmp_path / "items.parquet"))
    assert stack.dims == ("time", "band", "y", "x")
    np.testing.assert_array_equal(stack.read(), pixels)
    assert stack.coords["item"].values.tolist() == ["scene0", "scene1", "scene2"]
    assert str(stack.coords["time"].values[0]).startswith("2026-01-01T10:00:00")
    assert json.dumps(stack.metadata)


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"intake-tiffstack\[index\]"):
        open_stack(str(tmp_path / "files.parquet")).to_dask()


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "+02:00"])
def test_times_of_parquet_are_times_in_any_unit(
    tmp_path: Path, table: pd.DataFrame, unit: str, zone: str | None
) -> None:
    table["when"] = pd.to_datetime(table["when"]).dt.as_unit(unit)
    times = np.unique(table["when"].to_numpy("datetime64[us]"))
    table["when"] = table["when"].dt.tz_localize(zone)
    table.to_parquet(tmp_path / "files.parquet")
    coord = open_stack(str(tmp_path / "files.parquet"), concat_dim=["t", "channel"]).coords["when"]
    shift = np.timedelta64(2 if zone else 0, "h")
    np.testing.assert_array_equal(np.unique(coord.values), times - shift, strict=True)


# -- DataFrames ----------------------------------------------------------------------------------


def test_a_dataframe_is_opened_and_its_entry_opens_again(
    tmp_path: Path, table: pd.DataFrame, pixels: np.ndarray
) -> None:
    table = table.assign(url=[f"{tmp_path}/{url}" for url in table["url"]])
    table["when"] = pd.to_datetime(table["when"])
    source = TiffStackSource(table)
    np.testing.assert_array_equal(source.read(), pixels[:, ::-1])
    assert source.stack.coords["when"].dtype.kind == "M"
    path = tmp_path / "again.yml"
    path.write_text(source.yaml())
    again = intake.open_catalog(str(path)).tiffstack
    np.testing.assert_array_equal(again.read(), pixels[:, ::-1])
    assert again == pickle.loads(pickle.dumps(again))


def test_the_files_of_a_source_are_such_a_dataframe(
    tmp_path: Path, table: pd.DataFrame, pixels: np.ndarray
) -> None:
    stack = open_stack(write(table, tmp_path / "files.csv"), concat_dim=["channel", "t"])
    again = open_stack(stack.files)
    assert again.dims == stack.dims == ("channel", "t", "y", "x")
    np.testing.assert_array_equal(again.read(), stack.read())


def test_files_by_hand_number_a_list(tmp_path: Path, table: pd.DataFrame) -> None:
    urls = [str(tmp_path / url) for url in table["url"][:2]]
    stack = open_stack(urls, files={"t": [7, 3]})
    np.testing.assert_array_equal(
        stack.read(), np.stack([tifffile.imread(urls[1]), tifffile.imread(urls[0])])
    )
    with pytest.raises(OptionError, match="1 values for 't', but urlpath lists 2"):
        open_stack(urls, files={"t": [7]}).to_dask()
    with pytest.raises(OptionError, match=r"per URL of a list in urlpath, but urlpath is '.*tif'"):
        open_stack(f"{tmp_path}/*.tif", files={"t": [7]}).to_dask()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("when", "2026-02-30T00:00:00"),
        ("when", "2026-01-01T10:61:00"),
        ("when", "9999-12-31T23:59:59-12:00"),
        ("x", "1e400"),
        ("x", "."),
        ("t", "9" * 30),
    ],
)
def test_what_is_no_number_and_no_time_is_text(
    tmp_path: Path, table: pd.DataFrame, pixels: np.ndarray, column: str, value: str
) -> None:
    table = table.astype({column: str})
    table.loc[0, column] = value
    stack = open_stack(write(table, tmp_path / "files.csv"), missing="fill")
    coords = stack.to_xarray().coords
    assert all(coord.dtype.kind != "f" or np.isfinite(coord).all() for coord in coords.values())
    if column != "t":
        np.testing.assert_array_equal(stack.read(), pixels[:, ::-1])


def test_a_name_that_no_file_can_have_is_one_that_is_absent(
    tmp_path: Path, table: pd.DataFrame
) -> None:
    table.loc[0, "url"] = "a\0b.tif"
    with pytest.raises(FilesNotFoundError, match="names 6 files, but 1 of them are not there"):
        open_stack(write(table, tmp_path / "files.csv")).to_dask()
