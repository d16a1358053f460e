"""Options for a folder: what is proposed opens, and what does not fit says why."""

from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path
from typing import Any

import intake
import numpy as np
import pytest
import tifffile
import yaml

from intake_tiffstack import TiffStackSource, TiffStackWarning, add_to_catalog, open_stack, suggest
from intake_tiffstack.errors import FilesNotFoundError, MissingFilesError, OptionError, PatternError
from shared_data import SHARED, needs_shared


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (3, 2, 5, 6), np.uint16)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray) -> Path:
    """Return a folder of 3 t x 2 c with a thumbnail of each beside it, and notes."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for t, c in np.ndindex(3, 2):
        tifffile.imwrite(raw / f"scan_t{t:03d}_c{c}.tif", pixels[t, c])
        tifffile.imwrite(raw / f"scan_t{t:03d}_c{c}_thumb.tif", pixels[t, c, :2, :2])
    tifffile.imwrite(raw / "notes.tif", pixels[0, 0])
    (raw / "scan.xml").write_text("<scan/>")
    return raw


# -- suggest() -----------------------------------------------------------------------------------


def test_the_best_suggestion_opens_without_a_word(folder: Path, pixels: np.ndarray) -> None:
    found = suggest(folder)
    assert found.best is found[0]
    assert found.best.is_whole
    assert (found.best.n_files, found.best.n_listed, found.best.fullness) == (6, 13, 1)
    stack = open_stack(**found.best.options)
    assert stack.dims == ("t", "c", "y", "x")
    np.testing.assert_array_equal(stack.read(), pixels)


def test_a_suggestion_is_shown_with_its_reason(folder: Path) -> None:
    best = suggest(folder).best
    assert best is not None
    assert "3 t x 2 c x 5 y x 6 x, uint16: 6 of 13 TIFFs, 100% of the cells" in str(best)
    assert "because 6 names differ in t, c" in str(best)
    assert best.to_dict()["options"]["pattern"] == "scan_t{t:03d}_c{c:d}.tif"
    assert yaml.safe_load(best.to_yaml("x"))["sources"]["x"]["args"] == best.options
    assert eval(best.to_python()).sizes == best.sizes


def test_files_below_a_folder_are_looked_at(tmp_path: Path, pixels: np.ndarray) -> None:
    for t, c in np.ndindex(3, 2):
        (tmp_path / f"TimePoint_{t + 1}").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"TimePoint_{t + 1}" / f"img_c{c}.tif", pixels[t, c])
    best = suggest(str(tmp_path)).best
    assert best is not None
    assert best.options["urlpath"] == f"{tmp_path}/**/"
    np.testing.assert_array_equal(open_stack(**best.options).read(), pixels)


def test_files_in_one_folder_below_are_opened_there(folder: Path, pixels: np.ndarray) -> None:
    best = suggest(folder.parent).best
    assert best is not None
    assert best.options["urlpath"] == str(folder)
    np.testing.assert_array_equal(open_stack(**best.options).read(), pixels)


def test_pages_without_a_label_get_the_dim_that_names_leave_free(tmp_path: Path) -> None:
    stacks = np.random.default_rng(1).integers(0, 200, (3, 4, 5, 6), np.uint8)
    for t in range(3):
        tifffile.imwrite(tmp_path / f"t{t}.tif", stacks[t], photometric="minisblack", metadata=None)
    best = suggest(tmp_path).best
    assert best is not None
    assert best.options["file_dims"] == ["z", "y", "x"]
    assert "have no label" in best.reasons[-1]
    np.testing.assert_array_equal(open_stack(**best.options).read(), stacks)


def test_the_larger_part_of_files_that_differ_in_shape_is_picked(tmp_path: Path) -> None:
    for band in range(1, 6):
        shape = (8, 8) if band == 4 else (4, 4)
        tifffile.imwrite(tmp_path / f"scene_B{band}.tif", np.full(shape, band, np.uint8))
    found = suggest(tmp_path)
    assert [one.options["sel"] for one in found] == [{"band": [1, 2, 3, 5]}, {"band": [4]}]
    assert found.best is found[0]
    assert open_stack(**found[0].options).read()[:, 0, 0].tolist() == [1, 2, 3, 5]


def test_none_of_two_equal_parts_is_picked(tmp_path: Path) -> None:
    for k, t in np.ndindex(2, 3):
        tifffile.imwrite(tmp_path / f"k{k}_t{t}.tif", np.zeros((4 + k, 4), np.uint8))
    found = suggest(tmp_path)
    assert found.best is None
    assert "equally good" in found.why_none
    assert len(found) == 2
    with pytest.raises(PatternError, match=r"picks none of these:\n1\. "):
        open_stack(tmp_path, pattern="infer").to_dask()


def test_holes_are_named_and_not_filled(folder: Path) -> None:
    (folder / "scan_t001_c1.tif").unlink()
    best = suggest(folder).best
    assert best is not None
    assert not best.is_whole
    assert (best.n_files, best.n_cells) == (5, 6)
    assert "t=1" in best.holes[0]
    assert "1 of 6 cells have no file" in str(best.problem)


def test_names_that_number_nothing_say_so(tmp_path: Path) -> None:
    for name in ("anna", "bob", "charlotte"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((4, 4), np.uint8))
    found = suggest(tmp_path)
    assert (found, found.best) == ([], None)
    assert "3 TIFFs whose names number nothing" in found.why_none


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FilesNotFoundError):
        suggest(tmp_path)


# -- pattern="infer" -----------------------------------------------------------------------------


def test_infer_takes_the_best_and_prints_it(
    folder: Path, pixels: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = open_stack(folder, pattern="infer")
    np.testing.assert_array_equal(stack.read(), pixels)
    assert "pattern: scan_t{t:03d}_c{c:d}.tif" in capsys.readouterr().out
    stack.relist()
    assert stack.shape == (3, 2, 5, 6)
    assert capsys.readouterr().out == ""


def test_options_that_are_given_win_over_what_is_inferred(folder: Path, pixels: np.ndarray) -> None:
    stack = open_stack(folder, pattern="infer", sel={"c": 1}, dims=["c", "t", "y", "x"])
    np.testing.assert_array_equal(stack.read(), pixels[:, 1:].swapaxes(0, 1))


def test_an_entry_is_written_with_the_explicit_pattern(folder: Path, pixels: np.ndarray) -> None:
    source = TiffStackSource(str(folder), pattern="infer")
    arguments = yaml.safe_load(source.yaml())["sources"]["tiffstack"]["args"]
    assert arguments["pattern"] == "scan_t{t:03d}_c{c:d}.tif"
    assert arguments["concat_dim"] == ["t", "c"]
    catalog = folder.parent / "lab.yml"
    for name, made in (("a", source), ("b", suggest(folder)[0]), ("c", source.stack)):
        add_to_catalog(made, catalog, name)
    assert "infer" not in catalog.read_text()
    opened = intake.open_catalog(str(catalog))
    for name in "abc":
        np.testing.assert_array_equal(opened[name].read(), pixels)


def test_an_inferred_source_is_persisted_under_its_explicit_pattern(
    folder: Path, pixels: np.ndarray
) -> None:
    inferred = TiffStackSource(str(folder), pattern="infer")
    inferred.persist()
    explicit = TiffStackSource(**suggest(folder)[0].options)
    assert explicit.has_been_persisted
    np.testing.assert_array_equal(explicit.get_persisted().read(), pixels)
    explicit.unpersist()


def test_a_pattern_without_a_field_points_to_infer() -> None:
    with pytest.raises(PatternError, match="pattern='infer' proposes one"):
        open_stack(__file__, pattern="auto").to_dask()


# -- hints ---------------------------------------------------------------------------------------


def test_a_folder_whose_names_form_a_grid_says_so_once(tmp_path: Path, pixels: np.ndarray) -> None:
    for t, c in np.ndindex(3, 2):
        tifffile.imwrite(tmp_path / f"t{t}_c{c}.tif", pixels[t, c])
    stack = open_stack(tmp_path)
    with pytest.warns(TiffStackWarning, match="3 t x 2 c: add\n  pattern=") as caught:
        assert stack.shape == (6, 5, 6)
    stack.relist()
    assert stack.shape == (6, 5, 6)  # a second warning would be an error
    line = re.search("  (pattern=.*)", str(caught[0].message))
    assert line is not None
    options: dict[str, Any] = eval(f"dict({line[1]})")
    np.testing.assert_array_equal(open_stack(tmp_path, **options).read(), pixels)
    assert f"the names form a grid: {line[1]}" in str(stack.report())
    assert stack.report().to_dict()["proposal"]["sizes"] == {"t": 3, "c": 2}


def test_no_hint_where_the_order_is_asked_for_or_there_is_no_grid(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    for t, c in np.ndindex(3, 2):
        tifffile.imwrite(tmp_path / f"t{t}_c{c}.tif", pixels[t, c])
    assert open_stack(tmp_path, concat_dim="file").shape == (6, 5, 6)
    assert open_stack([tmp_path / "t0_c0.tif", tmp_path / "t1_c1.tif"]).shape == (2, 5, 6)
    assert open_stack(f"{tmp_path}/t*_c0.tif").shape == (3, 5, 6)


def test_what_is_no_suggestion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="what suggest"):
        add_to_catalog(suggest, tmp_path / "x.yml", "x")  # type: ignore[arg-type]


# -- real folders --------------------------------------------------------------------------------

# Folders that form no single grid, and what is said of them.
NOT_WHOLE = {
    "torchgeo_biomassters_chip_sensor_month": "equally good",
    "torchgeo_ssl4eo_dirs_location_time_band": "differ in shape",
}


def known_arrays() -> dict[str, list[tuple[tuple[int, ...], str]]]:
    """Return the shape and hash of each array that a real folder is known to hold."""
    found: dict[str, list[tuple[tuple[int, ...], str]]] = {}
    if SHARED is not None:
        with open(SHARED / "COLLECTIONS.csv", newline="") as lines:
            for row in csv.DictReader(lines):
                known = found.setdefault(row["collection"].removeprefix("sequences/"), [])
                if row["stitched_shape"]:
                    shape = tuple(map(int, row["stitched_shape"].split("x")))
                    known.append((shape, row["sha256_stitched"]))
    return found


KNOWN = known_arrays()


@needs_shared
@pytest.mark.parametrize("name", KNOWN)
def test_a_real_folder_comes_out_right_or_says_why_not(name: str) -> None:
    assert SHARED is not None
    found = suggest(SHARED / "sequences" / name)
    if name in NOT_WHOLE:
        assert found.best is None
        assert NOT_WHOLE[name] in found.why_none
        return
    assert found.best is not None, found.why_none
    stack = open_stack(**found.best.options)
    shape = tuple(n for n in stack.shape if n > 1)
    right = [
        (tuple(n for n in known if n > 1), digest)
        for known, digest in KNOWN[name]
        if sorted(n for n in known if n > 1) == sorted(shape)
    ]
    assert right
    if np.prod(shape) > 1e8:  # 768 MB, and its planes repeat
        return
    array = stack.read().squeeze()
    orders = {
        hashlib.sha256(np.ascontiguousarray(turned).tobytes()).hexdigest()
        for known, _ in right
        for axes in permuted(array.ndim - 2)
        if (turned := array.transpose(*axes, -2, -1)).shape == known
    }
    assert orders & {digest for _, digest in right}


def permuted(n: int) -> list[tuple[int, ...]]:
    from itertools import permutations

    return list(permutations(range(n)))


# -- refresh() -----------------------------------------------------------------------------------


def test_files_that_arrive_extend_the_axis(folder: Path, pixels: np.ndarray) -> None:
    source = TiffStackSource(str(folder), pattern="scan_t{t:d}_c{c:d}.tif", unmatched="ignore")
    before = source.to_dask()
    for c in range(2):
        tifffile.imwrite(folder / f"scan_t003_c{c}.tif", pixels[0, c])
    assert source.refresh() == [f"{folder}/scan_t003_c{c}.tif" for c in range(2)]
    assert source.to_dask().shape == (4, 2, 5, 6)
    assert source.discover()["shape"] == (4, 2, 5, 6)
    np.testing.assert_array_equal(source.read()[3], pixels[0])
    np.testing.assert_array_equal(before.compute(), pixels)
    assert source.refresh() == []


def test_a_refresh_reads_the_headers_of_new_files_alone(
    folder: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intake_tiffstack.header import cache

    stack = open_stack(folder, pattern="scan_t{t:d}_c{c:d}.tif", unmatched="ignore")
    assert len(stack.refresh()) == 6
    parsed: list[str] = []
    original = cache.open_header

    def spy(file: Any, *args: Any, **options: Any) -> Any:
        parsed.append(file.url)
        return original(file, *args, **options)

    monkeypatch.setattr(cache, "open_header", spy)
    for c in range(2):
        tifffile.imwrite(folder / f"scan_t003_c{c}.tif", pixels[0, c])
    stack.refresh()
    assert set(parsed) == {f"{folder}/scan_t003_c{c}.tif" for c in range(2)}


def test_half_a_time_point_leaves_the_collection_as_it_was(
    folder: Path, pixels: np.ndarray
) -> None:
    options: dict[str, Any] = {"pattern": "scan_t{t:d}_c{c:d}.tif", "unmatched": "ignore"}
    stack = open_stack(folder, **options)
    running = open_stack(folder, **options, missing="trim")
    assert stack.shape == running.shape == (3, 2, 5, 6)
    tifffile.imwrite(folder / "scan_t003_c0.tif", pixels[0, 0])
    with pytest.raises(MissingFilesError):
        stack.refresh()
    np.testing.assert_array_equal(stack.read(), pixels)
    assert running.refresh() == [f"{folder}/scan_t003_c0.tif"]
    assert running.shape == (3, 2, 5, 6)
