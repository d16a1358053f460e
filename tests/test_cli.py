"""The command line: what it prints, writes and returns, in the same process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import intake
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from intake_tiffstack.cli.app import main
from intake_tiffstack.errors import FileChangedError
from intake_tiffstack.options import Options
from servers import S3Server, serve_s3
from tiff_files import kind

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs the command line with these words, and returns its exit code."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["tiffstack", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return call


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (3, 2, 4, 16, 24), np.uint16)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray) -> Path:
    """Return a folder of 3 t x 2 c volumes with a scale, and a stray."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for t, c in np.ndindex(3, 2):
        tifffile.imwrite(
            raw / f"scan_t{t:03d}_c{c}.tif",
            pixels[t, c],
            **kind("imagej"),
            resolution=(10, 10),
            metadata={"axes": "ZYX", "unit": "um", "spacing": 0.3},
        )
    tifffile.imwrite(raw / "notes.tif", pixels[0, 0, 0])
    return raw


# -- inspect -------------------------------------------------------------------------------------


def test_inspect_shows_the_proposal_and_what_a_task_reads(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect", folder) == 0
    out = capsys.readouterr().out
    for text in (
        "scan_t{t:03d}_c{c:d}.tif",
        "6 of 7",
        "3 t x 2 c x 4 z x 16 y x 24 x",
        "z 0.3 micrometer",
        "a task reads",
        "0 of 6 files read are compressed",
        "exclude=['notes.tif']",
    ):
        assert text in out


def test_inspect_prints_json(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["suggestions"][0]["sizes"] == {"t": 3, "c": 2, "z": 4, "y": 16, "x": 24}
    assert found["options"]["pattern"] == "scan_t{t:03d}_c{c:d}.tif"
    assert found["report"]["missing"] == 0
    assert found["chunk_bytes"] * found["tasks"] >= 3 * 2 * 4 * 16 * 24 * 2


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, "none in the first file; 0 of 1"),
        (
            {"compression": "zlib", "predictor": True, "tile": (16, 32)},
            "ADOBE_DEFLATE, horizontal predictor, tiles of 16 x 32 in the first file; 1 of 1",
        ),
        ({"compression": "lzw", "rowsperstrip": 8}, "LZW, strips of 8 rows in the first file"),
    ],
    ids=["none", "tiles", "strips"],
)
def test_inspect_names_the_compression(
    run: Run,
    tmp_path: Path,
    how: dict[str, Any],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pixels = np.zeros((32, 64), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", **how)
    assert run("inspect", tmp_path / "a.tif") == 0
    assert expected in " ".join(capsys.readouterr().out.split())


def test_inspect_shows_holes_and_fails(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "scan_t001_c1.tif").unlink()
    assert run("inspect", folder) == 1
    assert "1 of 6 cells have no file" in capsys.readouterr().out
    assert run("inspect", folder, "--missing", "fill") == 0


def test_options_of_the_driver_are_taken(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--sel", "{c: 1}", "--dims", "[c, t, z, y, x]", "--json")
    assert run("inspect", folder, *words) == 0
    assert json.loads(capsys.readouterr().out)["report"]["shape"] == [1, 3, 4, 16, 24]


def test_every_option_of_the_driver_is_an_option(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("inspect", "catalog", "preview", "index", "export"):
        assert run(command, "--help") == 0
        shown = capsys.readouterr().out
        for spec in fields(Options)[1:]:
            assert f"--{spec.name.replace('_', '-')}" in shown


def test_equally_good_proposals_are_shown_and_none_is_taken(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, t in np.ndindex(2, 3):
        tifffile.imwrite(tmp_path / f"k{k}_t{t}.tif", np.zeros((4 + k, 4), np.uint8))
    assert run("inspect", tmp_path) == 3
    assert "equally good: take one by its number; --pattern 1" in " ".join(
        capsys.readouterr().out.split()
    )
    assert run("export", tmp_path, tmp_path / "x.zarr") == 3
    assert "equally good" in capsys.readouterr().err
    for number, y in (("1", 4), ("2", 5)):
        catalog = str(tmp_path / f"{number}.yml")
        assert run("catalog", tmp_path, "-o", catalog, "--pattern", number) == 0
        assert "3 of 6 TIFFs take part" in capsys.readouterr().out
        assert intake.open_catalog(catalog).images.to_dask().shape[-2] == y
    assert run("inspect", tmp_path, "--pattern", "3") == 1
    assert "but there are 2" in capsys.readouterr().err
    assert not (tmp_path / "x.zarr").exists()


def test_a_glob_that_the_shell_expanded_is_told(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect", *sorted(folder.iterdir())) == 2
    assert "quote it, as in 'raw/*.tif'" in capsys.readouterr().err
    assert run("inspect") == 2
    assert "quote" not in capsys.readouterr().err


def test_a_warning_is_printed_once_a_call(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, t in np.ndindex(2, 3):
        with tifffile.TiffWriter(tmp_path / f"k{k}_t{t}.tif") as tif:
            tif.write(np.zeros((4 + k, 4), np.uint8))
            tif.write(np.zeros((3, 3), np.uint8), metadata={"name": "other"})
    for _ in range(2):
        run("inspect", tmp_path)
        lines = [line for line in capsys.readouterr().err.splitlines() if "warning:" in line]
        assert lines
        assert len(set(lines)) == len(lines)


def test_errors_take_a_line_and_debug_shows_all(
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run("inspect", tmp_path / "nowhere") == 1
    caught = capsys.readouterr()
    assert caught.err.startswith("error: no file found")
    assert "Traceback" not in caught.err
    monkeypatch.setattr(sys, "argv", ["tiffstack", "--debug", "inspect", f"{tmp_path}/nowhere"])
    with pytest.raises(FileNotFoundError):
        main()
    assert run("inspect", tmp_path, "--no-such-option", "1") == 2


def test_the_module_is_the_command(folder: Path) -> None:
    words = [sys.executable, "-m", "intake_tiffstack", "--version"]
    assert subprocess.run(words, check=True, capture_output=True).stdout.startswith(b"tiffstack ")


# -- catalog -------------------------------------------------------------------------------------


def test_an_entry_is_added_and_comments_are_kept(
    run: Run, folder: Path, pixels: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = folder.parent / "lab.yml"
    catalog.write_text("sources:\n  other: {driver: csv, args: {urlpath: x}}  # mine\n")
    assert run("catalog", folder, "-o", catalog, "--name", "scan", "--dry-run") == 0
    assert "scan_t{t:03d}" in capsys.readouterr().out
    assert "scan_t" not in catalog.read_text()
    assert run("catalog", folder, "-o", catalog, "--name", "scan") == 0
    assert "scan opens as 3 t x 2 c x 4 z x 16 y x 24 x, uint16" in capsys.readouterr().out
    assert "# mine" in catalog.read_text()
    assert "{{ CATALOG_DIR }}/raw" in catalog.read_text()
    np.testing.assert_array_equal(intake.open_catalog(str(catalog)).scan.read(), pixels)


def test_what_does_not_open_is_not_written(run: Run, folder: Path) -> None:
    (folder / "scan_t001_c1.tif").unlink()
    catalog = folder.parent / "lab.yml"
    assert run("catalog", folder, "-o", catalog) == 1
    assert not catalog.exists()


# -- preview -------------------------------------------------------------------------------------


def test_a_preview_shows_each_time_in_colour_with_a_scale_bar(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "p.png"
    assert run("preview", folder, "-o", target) == 0
    image = np.asarray(Image.open(target))
    assert image.shape[2] == 3
    is_green = (image[..., 1] > 128) & (image[..., 0] < 60)
    is_magenta = (image[..., 0] > 128) & (image[..., 1] < 60)
    assert is_green.sum() > 1000
    assert is_magenta.sum() > 1000
    bar = image[-20:-14]  # 2.4 um are 16 times 24 pixels wide: 0.5 um are 80
    assert (bar > 230).all(axis=2).any(axis=0).sum() >= 80


def test_a_maximum_is_that_of_all_planes(run: Run, tmp_path: Path) -> None:
    volume = np.zeros((9, 32, 32), np.uint8)
    for z in range(9):
        volume[z, 3 * z : 3 * z + 3] = 200
    tifffile.imwrite(tmp_path / "z.tif", volume, photometric="minisblack", metadata={"axes": "ZYX"})
    target = tmp_path / "p.png"
    words = ("--percentiles", "0", "100", "--width", "32")
    assert run("preview", tmp_path / "z.tif", "-o", target, *words) == 0
    image = np.asarray(Image.open(target))[..., 0]
    middle, greatest = image[34:66, 12:44], image[34:66, 138:170]
    assert (middle == 255).any(axis=1).tolist() == [12 <= y < 15 for y in range(32)]
    assert (greatest == 255).any(axis=1).tolist() == [y < 27 for y in range(32)]


# -- export and verify ---------------------------------------------------------------------------


def test_a_plan_names_what_export_then_writes(
    run: Run, folder: Path, pixels: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder.parent / "copy.zarr"
    words = ("export", folder, target, "--set", "chunks=[1,1,4,16,24]")
    assert run(*words, "--dry-run") == 0
    assert "8 objects, 18.00 kiB decoded" in capsys.readouterr().out
    assert not target.exists()
    assert run(*words) == 0
    assert sum(path.is_file() for path in target.rglob("*")) == 8
    np.testing.assert_array_equal(zarr.open_array(target, mode="r")[:], pixels)
    assert run(*words) == 1  # it is there
    assert run(*words, "--overwrite") == 0


@pytest.mark.parametrize("format", ["zarr", "ome-zarr"])
def test_verify_finds_lost_chunks_and_other_pixels(
    run: Run, folder: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder.parent / "copy.zarr"
    chunks = "chunks=[1,1,4,16,24]"
    assert run("export", folder, target, "--format", format, "--set", chunks) == 0
    assert run("verify", target, "--against", folder, "--all") == 0
    assert "1 equal to the files" in capsys.readouterr().out
    other = np.zeros((4, 16, 24), np.uint16)
    tifffile.imwrite(
        folder / "scan_t001_c1.tif", other, metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    assert run("verify", target, "--against", folder, "--all", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["compared"] == 1
    assert "1 changed (scan_t001_c1.tif" in found["problems"][0]
    assert "the first at t 1, c 1, z 0, y 0, x 0" in found["problems"][1]
    assert run("verify", target, "--all") == 1  # the record names the files
    assert "the first at t 1, c 1, z 0, y 0, x 0" in capsys.readouterr().out
    assert run("verify", target, "--all", "--alone") == 0
    assert run("verify", target, "--sha256") == 1  # no hashes were asked for
    chunk = next(path for path in sorted(target.rglob("c/**/*")) if path.is_file())
    chunk.write_bytes(b"damaged")
    assert run("verify", target, "--all") == 1
    assert "WRONG" in capsys.readouterr().out
    chunk.unlink()
    assert run("verify", target) == 1
    assert "chunks are not there" in capsys.readouterr().out


def test_references_are_verified_too(run: Run, folder: Path) -> None:
    target = folder.parent / "refs.json"
    assert run("export", folder, target, "--format", "references", "--dry-run") == 0
    assert not target.exists()
    assert run("export", folder, target, "--format", "references") == 0
    assert run("verify", target, "--against", folder) == 0


# -- persist -------------------------------------------------------------------------------------


def test_persisted_copies_are_listed_shown_and_removed(
    run: Run,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    assert run("persist", "list") == 0
    assert "no copy in" in capsys.readouterr().out
    source = intake.open_tiffstack(
        str(folder), pattern="scan_t{t:d}_c{c:d}.tif", unmatched="ignore"
    )
    source.persist()
    capsys.readouterr()
    assert run("persist", "list", "--json") == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["n_files"], record["nbytes"]) == (6, 18432)
    key = record["key"][:8]
    assert run("persist", "show", key) == 0
    assert f"url: {tmp_path}/store" in capsys.readouterr().out
    assert run("persist", "remove", key, "--dry-run") == 0
    assert source.has_been_persisted
    assert run("persist", "remove", key) == 0
    assert not source.has_been_persisted
    assert run("persist", "remove", key) == 1


def test_superseded_copies_are_pruned(
    run: Run,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    source = intake.open_tiffstack(
        str(folder), pattern="scan_t{t:d}_c{c:d}.tif", unmatched="ignore"
    )
    source.persist()
    first = source.to_dask()
    source.repersist()
    capsys.readouterr()
    for words in (("prune",), ("prune", "--grace", "2 h"), ("prune", "--grace", "0", "--dry-run")):
        assert run("persist", *words) == 0
        first.compute()
    assert f"would remove {tmp_path}/store" in capsys.readouterr().out
    assert run("persist", "prune", "--grace", "0") == 0
    assert f"removed {tmp_path}/store" in capsys.readouterr().out
    with pytest.raises(FileChangedError, match="was removed since"):
        first.compute()
    source.get_persisted().read()
    assert run("persist", "prune", "--grace", "soon") == 1


# -- S3 ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with serve_s3() as running:
        yield running


def test_a_bucket_is_inspected_and_copied(
    run: Run,
    server: S3Server,
    folder: Path,
    pixels: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.put("cli", {f"raw/{path.name}": path.read_bytes() for path in folder.iterdir()})
    options = json.dumps(server.storage_options)
    assert run("inspect", "s3://cli/raw", "--storage-options", options, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["report"]["shape"] == list(pixels.shape)
    monkeypatch.setenv("TIFFSTACK_STORAGE_OPTIONS", options)
    assert run("export", "s3://cli/raw", "s3://cli/copy.zarr") == 0
    assert run("verify", "s3://cli/copy.zarr", "--against", "s3://cli/raw", "--all") == 0
