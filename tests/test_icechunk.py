"""References in an Icechunk repository, read by Icechunk and Zarr themselves."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import socket
import time
import warnings
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models.v05.image import Image

from child_processes import FORKS
from intake_tiffstack import TiffStack, TiffStackZarrSource, open_stack, verify
from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    LayoutError,
    OptionError,
    StorageError,
    TargetBusyError,
    TargetExistsError,
    UnsupportedFileError,
)
from ome_sets import write_set
from servers import Request, serve_s3

icechunk = pytest.importorskip("icechunk", reason="the extra icechunk installs it")

PATTERN = "a_c{c:d}_t{t:d}.tif"
PIXELS = np.random.default_rng(5).integers(0, 4000, (5, 2, 3, 32, 48), np.uint16)

pytestmark = pytest.mark.filterwarnings(
    # Zarr says so of zlib, which only numcodecs has
    "ignore:Numcodecs codecs are not in the Zarr version 3 specification"
)


def acquire(raw: Path, *times: int, **how: Any) -> None:
    raw.mkdir(exist_ok=True)
    how = {"compression": "zlib", "tile": (16, 16), **how}
    for t in times:
        for c in range(2):
            path = raw / f"a_c{c}_t{t}.tif"
            tifffile.imwrite(
                path, PIXELS[t, c], photometric="minisblack", metadata={"axes": "ZYX"}, **how
            )


def open_raw(raw: Path) -> TiffStack:
    return open_stack(f"{raw}/*.tif", pattern=PATTERN, concat_dim=["t", "c"])


def open_plain(url: Path, raw: Path) -> zarr.Group:
    """Return the newest snapshot as any user of Icechunk opens it."""
    local = getattr(icechunk.credentials, "LocalFileSystemAccess", None)  # Icechunk 1: None
    repository = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(url)),
        authorize_virtual_chunk_access={f"file://{raw}/": local},
    )
    return zarr.open_group(repository.readonly_session("main").store, mode="r")


@pytest.mark.parametrize("how", [{}, {"compression": "zstd"}, {"compression": None, "tile": None}])
def test_icechunk_and_zarr_read_the_pixels_of_the_files(tmp_path: Path, how: Any) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    acquire(raw, 0, 1, **how)
    open_raw(raw).export(url, format="icechunk", verify="all")
    array = open_plain(url, raw)["pixels"]
    assert array.metadata.dimension_names == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(array[:], PIXELS[:2])


def test_the_driver_opens_it_with_coordinates_and_record(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    acquire(raw, 0, 1, 2)
    open_raw(raw).export(url, format="icechunk")
    source = TiffStackZarrSource(url, sel={"t": [0, 2]})
    shown = source.to_xarray()
    np.testing.assert_array_equal(shown.t, [0, 2])
    np.testing.assert_array_equal(shown, PIXELS[[0, 2]])
    array = pickle.loads(pickle.dumps(source.copy.pixels))
    np.testing.assert_array_equal(array[1, 0, ::2, 3:20], PIXELS[2, 0, ::2, 3:20])
    assert "icechunk of 6 files, created" in source.report()
    check = verify(url, pixels="all")
    assert check, check.problems


def test_an_ome_zarr_group_is_valid(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    acquire(raw, 0, 1)
    open_raw(raw).export(url, format="icechunk", ome=True)
    group = open_plain(url, raw)
    image = Image.from_zarr(group)
    assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == list("tczyx")
    np.testing.assert_array_equal(group["0"][:], PIXELS[:2])
    np.testing.assert_array_equal(TiffStackZarrSource(url).to_xarray(), PIXELS[:2])


def test_it_grows_by_one_commit_and_its_history_stays(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    for times in [(0, 1), (2,), (3, 4)]:
        acquire(raw, *times)
        opened = TiffStackZarrSource(url).to_dask() if url.exists() else None
        open_raw(raw).export(url, format="icechunk", append="t")
        np.testing.assert_array_equal(open_plain(url, raw)["pixels"][:], PIXELS[: times[-1] + 1])
        if opened is not None:  # of the snapshot before
            np.testing.assert_array_equal(opened.compute(), PIXELS[: times[0]])
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(url)))
    messages = [commit.message for commit in repository.ancestry(branch="main")]
    assert messages[:3] == ["extended: 10 files", "extended: 6 files", "created: 4 files"]
    open_raw(raw).export(url, format="icechunk", append="t")  # nothing new
    assert len(list(repository.ancestry(branch="main"))) == len(messages)


def test_an_earlier_file_that_changed_is_an_error(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    acquire(raw, 0, 1)
    open_raw(raw).export(url, format="icechunk")
    acquire(raw, 2)
    os.utime(raw / "a_c0_t0.tif", ns=(1, 1))
    with pytest.raises(FileChangedError, match=r"1 changed \(a_c0_t0.tif"):
        open_raw(raw).export(url, format="icechunk", append="t")


def test_a_file_that_is_written_later_is_not_read(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    acquire(raw, 0, 1)
    open_raw(raw).export(url, format="icechunk")
    os.utime(raw / "a_c0_t0.tif", (4e9, 4e9))
    with pytest.raises(icechunk.IcechunkError):
        open_plain(url, raw)["pixels"][0, 0]
    with pytest.raises(FileChangedError, match="has changed since"):
        TiffStackZarrSource(url).to_dask()[0, 0].compute()
    np.testing.assert_array_equal(TiffStackZarrSource(url).to_dask()[1].compute(), PIXELS[1])


def test_what_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    acquire(raw, 0, 1)
    open_raw(raw).export(url, format="icechunk")
    with pytest.raises(TargetExistsError, match="overwrite=True commits a new snapshot"):
        open_raw(raw).export(url, format="icechunk")
    acquire(raw, 2)
    open_raw(raw).export(url, format="icechunk", overwrite=True)
    np.testing.assert_array_equal(open_plain(url, raw)["pixels"][:], PIXELS[:3])


def test_files_elsewhere_are_read_only_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, url = tmp_path / "raw", tmp_path / "other" / "scan.icechunk"
    acquire(raw, 0)
    open_raw(raw).export(url, format="icechunk")
    monkeypatch.setattr("intake_tiffstack.storage.reference_targets._OWN", set())
    with pytest.raises(StorageError, match="lies in another folder"):
        TiffStackZarrSource(url).to_dask()


@pytest.mark.parametrize("raw", ["", "raw", "raw/deeper"])
def test_files_beside_the_repository_and_below_are_read_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: str
) -> None:
    (tmp_path / raw).mkdir(parents=True, exist_ok=True)
    acquire(tmp_path / raw, 0, 1)
    open_raw(tmp_path / raw).export(tmp_path / "scan.icechunk", format="icechunk")
    monkeypatch.setattr("intake_tiffstack.storage.reference_targets._OWN", set())
    source = TiffStackZarrSource(str(tmp_path / "scan.icechunk"))
    np.testing.assert_array_equal(source.read(), PIXELS[:2])


@pytest.mark.parametrize(
    ("name", "how", "error", "message"),
    [
        ("a.zarr", {}, OptionError, r"must end in \.icechunk"),
        ("a.icechunk", {"compression": "lzw"}, UnsupportedFileError, "has no name for"),
        ("a.icechunk", {"predictor": 2}, UnsupportedFileError, "has no name for"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, name: str, how: Any, error: Any, message: str
) -> None:
    acquire(tmp_path / "raw", 0, **how)
    with pytest.raises(error, match=message):
        open_raw(tmp_path / "raw").export(tmp_path / name, format="icechunk")
    assert not list((tmp_path / name).rglob("*/*"))


def test_no_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(FilesNotFoundError, match="holds no Icechunk repository"):
        TiffStackZarrSource(tmp_path / "a.icechunk").to_dask()


def test_a_place_that_cannot_be_used_is_an_error_and_no_panic(tmp_path: Path) -> None:
    """A folder that must not be read or written fails in the same way."""
    acquire(tmp_path / "raw", 0)
    (tmp_path / "file").write_text("")
    url = tmp_path / "file" / "a.icechunk"
    with pytest.raises(FilesNotFoundError, match="holds no Icechunk repository"):
        TiffStackZarrSource(url).to_dask()
    with pytest.raises(StorageError, match=r"cannot write .*Not a directory"):
        open_raw(tmp_path / "raw").export(url, format="icechunk")


def test_a_store_that_never_answers_is_an_error_within_the_settings(tmp_path: Path) -> None:
    acquire(tmp_path / "raw", 0)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as hole,
        dask.config.set({"tiffstack.retries": 0, "tiffstack.timeout": 0.5}),
    ):
        endpoint = f"http://127.0.0.1:{hole.getsockname()[1]}"
        options = {"key": "key", "secret": "secret", "endpoint_url": endpoint}
        with pytest.raises(StorageError, match=r"(?i)timeout"):
            TiffStackZarrSource("s3://lab/a.icechunk", storage_options=options).to_dask()
        with pytest.raises(StorageError, match=r"(?i)timeout"):
            open_raw(tmp_path / "raw").export(
                "s3://lab/a.icechunk", format="icechunk", storage_options=options
            )


def test_a_bucket_holds_both_and_an_etag_that_differs_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    acquire(raw, 0, 1)
    with serve_s3() as server:
        server.put("lab", {f"raw/{path.name}": path.read_bytes() for path in raw.iterdir()})
        options = server.storage_options
        stack = open_stack(
            "s3://lab/raw/*.tif", pattern=PATTERN, concat_dim=["t", "c"], storage_options=options
        )
        url = "s3://lab/scan.icechunk"
        stack.export(url, format="icechunk", storage_options=options)
        source = TiffStackZarrSource(url, storage_options=options)
        np.testing.assert_array_equal(source.read(), PIXELS[:2])
        assert "s3cr3t" not in str(source.record)
        content = bytearray((raw / "a_c0_t0.tif").read_bytes())
        content[-1] ^= 1
        server.put("lab", {"raw/a_c0_t0.tif": bytes(content)})
        with pytest.raises(FileChangedError, match="has changed since"):
            source.to_dask()[0, 0].compute()


def test_an_export_that_failed_is_made_again_by_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    acquire(raw, 0, 1)
    with monkeypatch.context() as patched:
        patched.setattr("intake_tiffstack.export.icechunk._spec", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            open_raw(raw).export(url, format="icechunk")
    open_raw(raw).export(url, format="icechunk")
    acquire(raw, 2)
    with monkeypatch.context() as patched:
        patched.setattr("intake_tiffstack.export.icechunk._verify", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            open_raw(raw).export(url, format="icechunk", append="t")
    np.testing.assert_array_equal(open_plain(url, raw)["pixels"][:], PIXELS[:2])
    open_raw(raw).export(url, format="icechunk", append="t")
    np.testing.assert_array_equal(open_plain(url, raw)["pixels"][:], PIXELS[:3])


def test_arrays_of_two_kinds_have_two_names(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    acquire(raw, 0, 1)
    open_raw(raw).export(url, format="icechunk")
    with dask.config.set({"tiffstack.allow_code": True}):
        plain, other = (
            TiffStackZarrSource(str(url), arraytype=kind).to_dask()
            for kind in ("numpy", "array_double:DoubleDevice")
        )
    assert plain.name != other.name
    assert plain.name == TiffStackZarrSource(str(url)).to_dask().name


def test_a_set_of_files_and_a_padded_collection(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    _, pixels = write_set(tmp_path / "set", "TC", reverse=True)
    first = min((tmp_path / "set").glob("*.tif"))
    url = str(tmp_path / "set.icechunk")
    open_stack(str(first), sets="ome").export(url, format="icechunk", verify="all")
    np.testing.assert_array_equal(TiffStackZarrSource(url).read(), pixels)
    for n in (3, 4):
        tifffile.imwrite(tmp_path / f"t{n}.tif", np.ones((n, 5), "u1"))
    padded = open_stack(str(tmp_path / "t*.tif"), pattern="t{t:d}.tif", unequal="pad")
    with pytest.raises(LayoutError, match="padded by unequal='pad' have no references"):
        padded.export(str(tmp_path / "padded.icechunk"), format="icechunk")


# -- a creation that was stopped -------------------------------------------------------------------

# What a creation writes; the last is written after the two of the first commit.
OBJECTS = ("config.yaml", "snapshots/1CECHNKREP0F1RSTCMT0", "refs/branch.main/ref.json")
if int(icechunk.__version__.partition(".")[0]) > 1:
    OBJECTS = ("snapshots/1CECHNKREP0F1RSTCMT0", "transactions/1CECHNKREP0F1RSTCMT0", "repo")
FIRST_COMMIT = {name for name in OBJECTS if "1CECHNK" in name}


def begin(url: Path, *, age: float = 3600) -> None:
    """Create a repository as Icechunk does, without any commit."""
    config = icechunk.RepositoryConfig.default()
    store = icechunk.local_filesystem_store("/elsewhere")
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer("file:///elsewhere/", store))
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(url)), config)
    assert {str(path.relative_to(url)) for path in url.rglob("*") if path.is_file()} == {*OBJECTS}
    for name in OBJECTS:
        os.utime(url / name, (time.time() - age,) * 2)


@pytest.mark.parametrize(
    "left",
    [
        found
        for n in range(4)
        for found in itertools.combinations(OBJECTS, n)
        if OBJECTS[2] not in found or {*found} >= FIRST_COMMIT
    ],
)
def test_what_a_stopped_creation_left_is_replaced(tmp_path: Path, left: tuple[str, ...]) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    acquire(raw, 0, 1)
    begin(url)
    for name in {*OBJECTS} - {*left}:
        (url / name).unlink()
    (url / "config.yaml#1").write_text("hal")
    os.utime(url / "config.yaml#1", (0, 0))
    open_raw(raw).export(url, format="icechunk", verify="all")
    np.testing.assert_array_equal(open_plain(url, raw)["pixels"][:], PIXELS[:2])


def test_a_creation_of_this_minute_is_left_alone(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "scan.icechunk"
    acquire(raw, 0)
    begin(url, age=1)
    (url / OBJECTS[2]).unlink()
    with pytest.raises(TargetBusyError, match=f"remove {', '.join(OBJECTS[:2])} there"):
        open_raw(raw).export(url, format="icechunk")
    assert (url / OBJECTS[0]).exists()
    (url / "notes.txt").write_text("mine")
    with pytest.raises(TargetExistsError, match=r"'notes.txt' in it"):
        open_raw(raw).export(url, format="icechunk")


def export_to_s3(options: dict[str, Any], url: str) -> None:
    warnings.simplefilter("ignore")
    stack = open_stack(
        "s3://lab/raw/*.tif", pattern=PATTERN, concat_dim=["t", "c"], storage_options=options
    )
    stack.export(url, format="icechunk", storage_options=options, progress=False, verify=False)


@pytest.mark.parametrize(
    "writes", [range(1, 5), pytest.param(itertools.count(5), marks=pytest.mark.slow)]
)
def test_an_export_that_is_killed_at_any_write_is_made_again_by_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: Any
) -> None:
    monkeypatch.setattr("intake_tiffstack.export.icechunk.STALE_SECONDS", -1.0)
    raw = tmp_path / "raw"
    acquire(raw, 0)
    with serve_s3() as server:
        server.put("lab", {f"raw/{path.name}": path.read_bytes() for path in raw.iterdir()})
        options = server.storage_options
        for number in writes:
            url, seen = f"s3://lab/{number}.icechunk", itertools.count(1)
            process = FORKS.Process(target=export_to_s3, args=(options, url))

            def kill_at_write(
                request: Request, process: Any = process, seen: Any = seen, last: int = number
            ) -> int | None:
                if request.method != "PUT" or next(seen) != last:
                    return None
                os.kill(process.pid, signal.SIGKILL)
                return 503

            server.refuses = kill_at_write
            process.start()
            process.join()
            was_killed = process.exitcode == -signal.SIGKILL
            process.close()
            server.refuses = lambda request: None
            if was_killed:
                export_to_s3(options, url)
            source = TiffStackZarrSource(url, storage_options=options)
            np.testing.assert_array_equal(source.read(), PIXELS[:1])
            if not was_killed:
                break
    assert was_killed == (writes == range(1, 5))
