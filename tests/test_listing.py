"""From urlpath to files: local, in archives, in memory, over HTTP and S3."""

from __future__ import annotations

import csv
import fnmatch
import glob
import io
import os
import socket
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import open_stack
from intake_tiffstack.errors import (
    FilesNotFoundError,
    MissingFilesError,
    OptionError,
    StorageError,
    UnreadableFileError,
)
from intake_tiffstack.listing.globs import GlobPart, find_files, split_glob
from intake_tiffstack.listing.list_files import (
    Listing,
    get_filesystem,
    is_local,
    list_files,
    stat_file,
)
from intake_tiffstack.storage import filesystem
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.filesystem import renew_filesystem
from intake_tiffstack.storage.store import LocalStore
from servers import KEY, SECRET, S3Server, serve_folder

TREE = [
    "raw/a1.tif",
    "raw/a 2.tif",
    "raw/B3.TIF",
    "raw/x[1].tif",
    "raw/x1.tif",
    "raw/t{0}.tif",
    "raw/._a1.tif",
    "raw/notes.xml",
    "raw/.cache/a9.tif",
    "raw/sub/c.tif",
    "raw/p[1]/z.tif",
    "top.tif",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    yield fsspec.filesystem("memory")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(params=["local", "zip", "memory", "s3"])
def place(request: pytest.FixtureRequest, tree: Path) -> tuple[str, str, dict[str, Any]]:
    """Return what stands before and behind a path in the tree on each kind of store."""
    contents = {name: name.encode() for name in TREE}
    if request.param == "zip":
        archive = tree / "tree.zip"
        with zipfile.ZipFile(archive, "w") as handle:
            for name, content in contents.items():
                handle.writestr(name, content)
        return "zip://", f"::{archive}", {}
    if request.param == "memory":
        request.getfixturevalue("memory").pipe({f"/tree/{k}": v for k, v in contents.items()})
        return "memory://tree/", "", {}
    if request.param == "s3":
        server = request.getfixturevalue("s3_server")
        server.put("bucket-tree", contents)
        return "s3://bucket-tree/", "", server.storage_options
    return f"{tree}/", "", {}


def add(place: tuple[str, str, dict[str, Any]], name: str, content: bytes) -> None:
    """Put one more file into the tree, behind the back of any cache."""
    start, end, options = place
    if end:
        with zipfile.ZipFile(end.removeprefix("::"), "a") as handle:
            handle.writestr(name, content)
        return
    with fsspec.open(
        f"{start}{name}", "wb", skip_instance_cache=True, auto_mkdir=True, **options
    ) as handle:
        handle.write(content)


def names_below(listing: Listing) -> list[str]:
    return [path.removeprefix(listing.root) for path in listing.files.paths]


# --- one meaning on every store -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("urlpath", "names"),
    [
        ("raw/a1.tif", "a1.tif"),
        ("raw/x[1].tif", "x[1].tif"),
        ("raw/t{0}.tif", "t{0}.tif"),
        ("raw/notes.xml", "notes.xml"),
        ("raw", "B3.TIF|a 2.tif|a1.tif|t{0}.tif|x1.tif|x[1].tif"),
        ("raw/", "B3.TIF|a 2.tif|a1.tif|t{0}.tif|x1.tif|x[1].tif"),
        ("raw/*", "B3.TIF|a 2.tif|a1.tif|t{0}.tif|x1.tif|x[1].tif"),
        ("raw/a*", "a 2.tif|a1.tif"),
        ("raw/*.TIF", "B3.TIF"),
        ("raw/*.xml", "notes.xml"),
        ("raw/?1.tif", "a1.tif|x1.tif"),
        ("raw/[!a]*.tif", "t{0}.tif|x1.tif|x[1].tif"),
        ("raw/[a-b]1.tif", "a1.tif"),
        ("*/*/*.tif", "raw/p[1]/z.tif|raw/sub/c.tif"),
        ("raw/*/", "p[1]/z.tif|sub/c.tif"),
        ("raw/*/c.tif", "sub/c.tif"),
        ("**/[cz].tif", "raw/p[1]/z.tif|raw/sub/c.tif"),
        ("raw/**/a*.tif", "a 2.tif|a1.tif"),
        ("{folder}/{name}1.tif", "raw/a1.tif|raw/x1.tif"),
    ],
)
def test_urlpath_stands_for(
    place: tuple[str, str, dict[str, Any]], urlpath: str, names: str
) -> None:
    start, end, options = place
    listing = list_files(start + urlpath + end, storage_options=options)
    assert names_below(listing) == names.split("|")
    assert listing.files.urls == tuple(sorted(f"{path}{end}" for path in listing.files.paths))
    for file, path in zip(listing.files, listing.files.paths, strict=True):
        assert file.size == len(path.removeprefix(start))
        assert (file.mtime_ns > 0) is (file.etag is None)
        assert stat_file(file.url, options) == file
        store, inside = get_filesystem(file.url, options)
        assert store.cat_file(inside).decode() == path.removeprefix(start)


@pytest.mark.parametrize("urlpath", ["raw/p[1]", "raw/p[1]/", "raw/p[1]/*.tif", "raw/p[1]/z.tif"])
def test_brackets_of_a_folder_are_its_name(
    place: tuple[str, str, dict[str, Any]], urlpath: str
) -> None:
    start, end, options = place
    listing = list_files(start + urlpath + end, storage_options=options)
    assert listing.files.urls == (f"{start}raw/p[1]/z.tif{end}",)
    assert listing.is_single is urlpath.endswith("z.tif")


def test_single_file_is_reported_from_a_list_and_a_glob_of_one(
    place: tuple[str, str, dict[str, Any]],
) -> None:
    start, end, options = place
    url = f"{start}raw/a1.tif{end}"
    assert list_files(url, storage_options=options).is_single
    assert not list_files([url], storage_options=options).is_single
    assert not list_files(f"{start}raw/a1*.tif{end}", storage_options=options).is_single


def test_nothing_there_is_an_error_that_says_what_is(
    place: tuple[str, str, dict[str, Any]],
) -> None:
    start, end, options = place
    for urlpath, reported in [
        ("raw/*.png", r"raw/ holds 7 files \(5 \.tif, .*1 \.xml.*\) and 2 folders"),
        ("raw/sub/C.tif", "case matters: it would match 'c.tif' otherwise"),
        ("raw/sub/*.TIF", "case matters: it would match 'c.tif' otherwise"),
        ("raw/a3.tif", "did you mean 'a1.tif'"),
        ("nowhere/*.tif", "nowhere/"),
    ]:
        with pytest.raises(FilesNotFoundError, match=reported):
            list_files(start + urlpath + end, storage_options=options)


def test_exclude_looks_at_the_name_and_at_the_path(
    place: tuple[str, str, dict[str, Any]],
) -> None:
    start, end, options = place
    everything = f"{start}**/*.tif{end}"

    def kept(exclude: str | list[str]) -> list[str]:
        return names_below(list_files(everything, storage_options=options, exclude=exclude))

    assert kept("*[0-9]*") == ["raw/sub/c.tif", "top.tif"]
    assert kept(["raw/*", "unused*"]) == ["top.tif"]
    assert "raw/a1.tif" in kept("A1.tif")
    with pytest.raises(FilesNotFoundError, match=r"exclude='\*.tif' leaves out all of the 8 files"):
        kept("*.tif")


def test_second_listing_sees_what_changed(place: tuple[str, str, dict[str, Any]]) -> None:
    start, end, options = place
    urlpath = f"{start}raw/*.tif{end}"
    before = list_files(urlpath, storage_options=options).files
    add(place, "raw/new.tif", b"new")
    after = list_files(urlpath, storage_options=options).files
    assert set(after.urls) - set(before.urls) == {f"{start}raw/new.tif{end}"}


# --- local --------------------------------------------------------------------------------------


def test_local_paths_are_made_absolute(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "raw")
    monkeypatch.setenv("HOME", str(tree))
    want = (f"{tree}/raw/a 2.tif", f"{tree}/raw/a1.tif")
    for urlpath in [
        "a*.tif",
        "./a*.tif",
        "../raw//a*.tif",
        "sub/../a*.tif",
        "~/raw/a*.tif",
        f"{tree}//raw/.//a*.tif",
        f"file://{tree}/raw/a*.tif",
        f"local://{tree}/raw/a*.tif",
        Path("a*.tif"),
    ]:
        assert list_files(urlpath).files.urls == want
    assert list_files("zip://*.tif::../x.zip" if _zip(tree) else "").files.urls == (
        f"zip://a.tif::{tree}/x.zip",
    )


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_threads_read_parts_of_the_members_of_one_archive(tmp_path: Path, compression: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as handle:
        for t in range(8):
            content = io.BytesIO()
            tifffile.imwrite(content, np.full((40, 64, 64), t, "u2"), photometric="minisblack")
            handle.writestr(f"t{t}.tif", content.getvalue())
    array = open_stack(
        f"zip://*.tif::{tmp_path}/a.zip", pattern="t{t:d}.tif", chunks={"t": 1}
    ).to_dask()
    for z in range(10, 40, 3):
        assert (array[:, z] == np.arange(8)[:, None, None]).all().compute(num_workers=8)


def test_names_of_several_archives_are_read_too(tmp_path: Path) -> None:
    for day, pixel in (1, 10), (2, 20):
        with zipfile.ZipFile(tmp_path / f"S2_2020010{day}.zip", "w") as handle:
            for band in (4, 8):
                content = io.BytesIO()
                tifffile.imwrite(content, np.full((2, 3), pixel + band, "uint8"))
                handle.writestr(f"IMG/B{band:02}.tif", content.getvalue())
    urls = [f"zip://IMG/*.tif::{tmp_path}/S2_2020010{day}.zip" for day in (1, 2)]
    for pattern in (
        "S2_{time:%Y%m%d}.zip/IMG/B{band:d}.tif",
        r"S2_(?P<time>\d+)\.zip/IMG/B(?P<band>\d+)",
    ):
        stack = open_stack(urls, pattern=pattern)
        assert stack.dims == ("time", "band", "y", "x")
        assert stack.read()[:, :, 0, 0].tolist() == [[14, 18], [24, 28]]
    assert list_files(urls, exclude="*B08*").files.urls == tuple(
        u.replace("*", "B04") for u in urls
    )


def test_parts_of_a_date_as_dims_say_how_to_write_one_date(tmp_path: Path) -> None:
    for day in "2015/12/07", "2016/01/05":
        (tmp_path / day).mkdir(parents=True)
        tifffile.imwrite(tmp_path / day / "a.tif", np.zeros((2, 3), "uint8"))
    with pytest.raises(MissingFilesError, match=r"write them as \{time:%Y\}, \{time:%m\}"):
        open_stack(f"{tmp_path}/**/*.tif", pattern="{year:d}/{month:d}/{day:d}/{}.tif").to_dask()
    assert open_stack(f"{tmp_path}/{{time:%Y/%m/%d}}/*.tif").to_dask().shape == (2, 2, 3)


def _zip(tree: Path) -> bool:
    with zipfile.ZipFile(tree / "x.zip", "w") as handle:
        handle.writestr("a.tif", b"")
    return True


def test_parent_of_a_linked_folder_is_where_opening_would_go(tree: Path) -> None:
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere" / "link").symlink_to(tree / "raw" / "sub", target_is_directory=True)
    urlpath = f"{tree}/elsewhere/link/../a1.tif"
    assert Path(urlpath).exists()
    assert list_files(urlpath).files.urls == (os.path.realpath(f"{tree}/raw/a1.tif"),)


def test_links_to_files_are_followed_and_dangling_ones_are_listed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "big.tif").write_bytes(b"12345")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.tif").symlink_to(tmp_path / "store" / "big.tif")
    (tmp_path / "raw" / "b.tif").symlink_to(tmp_path / "nowhere")
    (tmp_path / "raw" / "round").symlink_to(tmp_path, target_is_directory=True)
    assert [(f.url, f.size) for f in list_files(f"{tmp_path}/raw/*.tif").files] == [
        (f"{tmp_path}/raw/a.tif", 5),
        (f"{tmp_path}/raw/b.tif", -1),
    ]
    assert len(list_files(f"{tmp_path}/raw/**/*.tif").files) == 2
    assert names_below(list_files(f"{tmp_path}/raw/*/store/*.tif")) == ["round/store/big.tif"]


def write_frames(folder: Path, count: int) -> None:
    for t in range(count):
        tifffile.imwrite(folder / f"t{t}.tif", np.full((4, 5), t, np.uint16), metadata=None)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (".git/annex/objects/zz/x.tif", r"git-annex \(DataLad\) .* run `datalad get /.*t2\.tif`"),
        ("/unmounted/nas/t2.tif", "a link to /unmounted/nas/t2.tif, which does not exist; mount"),
        ("t2.tif", "a link to t2.tif, which does not exist"),
        ("t0.tif/x", "a link to t0.tif/x, which does not exist"),
    ],
    ids=["annex", "not mounted", "loop", "below a file"],
)
@pytest.mark.parametrize("urlpath", ["*.tif", "t2.tif", ""], ids=["glob", "name", "folder"])
def test_a_link_that_points_nowhere_is_an_error_that_names_its_target(
    tmp_path: Path, target: str, said: str, urlpath: str
) -> None:
    write_frames(tmp_path, 2)
    (tmp_path / "t2.tif").symlink_to(target)
    with pytest.raises(UnreadableFileError, match=said):
        _ = open_stack(f"{tmp_path}/{urlpath}", pattern="t{t:d}.tif").shape


def test_a_link_that_points_nowhere_is_found_among_thousands(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t0000.tif", np.zeros((4, 5), np.uint16), metadata=None)
    for t in range(1, 1100):
        os.link(tmp_path / "t0000.tif", tmp_path / f"t{t:04d}.tif")
    (tmp_path / "t0700.tif").unlink()
    (tmp_path / "t0700.tif").symlink_to("nowhere")
    with pytest.raises(UnreadableFileError, match=r"t0700\.tif is a link to nowhere"):
        _ = open_stack(f"{tmp_path}/*.tif", pattern="t{t:d}.tif").shape


def test_files_that_cannot_be_read_are_filled_if_asked_for(tmp_path: Path) -> None:
    write_frames(tmp_path, 2)
    (tmp_path / "t2.tif").symlink_to("nowhere")
    os.mkfifo(tmp_path / "t3.tif")
    stack = open_stack(f"{tmp_path}/*.tif", pattern="t{t:d}.tif", on_error="fill", fill_value=9)
    assert stack.read()[:, 0, 0].tolist() == [0, 1, 9, 9]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["*.tif", "t1.tif"])
def test_a_pipe_is_an_error_and_is_never_waited_for(tmp_path: Path, name: str) -> None:
    write_frames(tmp_path, 1)
    os.mkfifo(tmp_path / "t1.tif")
    with pytest.raises(UnreadableFileError, match=r"t1\.tif is a named pipe \(FIFO\)"):
        _ = open_stack(f"{tmp_path}/{name}", pattern="t{t:d}.tif").shape


@pytest.mark.timeout(20)
def test_a_list_that_is_a_pipe_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(UnreadableFileError, match=r"list\.txt is a named pipe"):
        list_files(f"{tmp_path}/list.txt")


def test_devices_and_sockets_are_errors(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.tif"))
        with pytest.raises(UnreadableFileError, match=r"s\.tif is a socket"):
            list_files(f"{tmp_path}/s.tif")
    with pytest.raises(UnreadableFileError, match="/dev/null is a character device"):
        _ = open_stack("/dev/null").shape


def test_folder_takes_every_suffix_of_a_tiff(tmp_path: Path) -> None:
    names = ["a.tif", "b.TIFF", "c.btf", "d.tf8", "e.STK", "f.lsm", "g.ome.tif"]
    for name in [*names, "h.png", "i.tif.xml", "tif"]:
        (tmp_path / name).touch()
    assert names_below(list_files(tmp_path)) == sorted(names)


def test_list_of_several_has_each_file_once_and_the_folder_in_common(tree: Path) -> None:
    listing = list_files([f"{tree}/raw/a*.tif", tree / "raw" / "a1.tif", f"{tree}/raw/sub"])
    assert names_below(listing) == ["a1.tif", "a 2.tif", "sub/c.tif"]
    other = list_files([f"{tree}/raw/sub", tree / "raw" / "a1.tif", f"{tree}/raw/a*.tif"])
    assert names_below(other) == ["sub/c.tif", "a1.tif", "a 2.tif"]
    assert other.is_ordered
    assert not list_files(f"{tree}/raw/a*.tif").is_ordered
    assert listing.root == f"{tree}/raw/"
    assert list_files([f"{tree}/raw", f"{tree}/top.tif"]).root == f"{tree}/"


def test_each_of_several_must_stand_for_a_file(tree: Path) -> None:
    with pytest.raises(FilesNotFoundError, match=r"no file found for .*/raw/q\*\.tif"):
        list_files([f"{tree}/raw/a*.tif", f"{tree}/raw/q*.tif"])


@pytest.mark.parametrize("urlpath", [[], "", ["a.tif", None], 3, b"a.tif", "a\0.tif"], ids=ascii)
def test_urlpath_of_another_kind_is_refused(urlpath: Any) -> None:
    with pytest.raises(OptionError, match="urlpath must be a file, folder, glob or list"):
        list_files(urlpath)


@pytest.mark.parametrize(
    ("urlpath", "reported"),
    [
        ("raww/*.tif", r"folder .*/raww/ does not exist \(.*/ does, did you mean 'raw'\?\)"),
        ("empty", r"empty/ holds nothing; a TIFF ends in \.tif \.tiff"),
        ("pages/*", r"3 files \(2 \.png, 1 \.csv\)"),
        ("plates", r"TIFFs lie below it, such as .*/plates/B02/a\.tif: try .*/plates/\*\*/\*\.tif"),
        ("plates/*.tif", r"TIFFs lie below it"),
        ("plates/B*", r"it matches folders, such as 'B02': add '/' for the TIFFs in them"),
        ("old", r"such as .*/old/B02/A\.TIFF: try .*/old/\*\*/\*\.TIFF$"),
        ("raw/*.{tif,TIF}", r"'\{a,b\}' is not supported: give a list of globs"),
        ("{{ CATALOG_DIR }}/a.tif", r"only a catalog fills in '\{\{ \}\}'"),
        ("raw/a1.tif/*.tif", r"folder .* does not exist"),
        ("/../../../../../../../../no-such-folder/*.tif", r"folder .* does not exist \(/ does\)"),
    ],
)
def test_not_found_hints_at_what_was_meant(tree: Path, urlpath: str, reported: str) -> None:
    (tree / "empty").mkdir()
    for name in ["pages/a.png", "pages/b.png", "pages/c.csv", "plates/B02/a.tif", "old/B02/A.TIFF"]:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    with pytest.raises(FilesNotFoundError, match=reported) as caught:
        list_files(f"{tree}/{urlpath}")
    assert len(str(caught.value)) < 600


def test_folder_that_may_not_be_listed_is_a_storage_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)  # root may list every folder
    with pytest.raises(StorageError, match=r"cannot list or read .*/raw/: PermissionError"):
        list_files(f"{tree}/raw/*.tif")


def test_file_that_goes_while_it_is_listed_is_not_there(tree: Path) -> None:
    def keep(name: str) -> bool:
        (tree / "raw" / "sub" / name).unlink()
        return True

    assert len(LocalStore().files(f"{tree}/raw/sub/", keep)) == 0


def test_stat_file_says_where_there_is_no_file(tree: Path) -> None:
    with pytest.raises(FilesNotFoundError, match=r"cannot list or read .*/zz\.tif"):
        stat_file(f"{tree}/raw/zz.tif", {})
    with pytest.raises(FilesNotFoundError, match="is a folder, not a file"):
        stat_file(f"{tree}/raw", {})


# --- globs --------------------------------------------------------------------------------------

NAMES = st.text("ab1-", min_size=1, max_size=3)
GLOB_TEXT = st.text("ab1-*?[]!", min_size=1, max_size=5)


@pytest.fixture(scope="module")
def forest() -> Iterator[str]:
    """Return a folder with files three folders deep whose names meet all sorts of globs."""
    with tempfile.TemporaryDirectory() as top:
        for folder in ["", "a", "b1", "a/b", "a/-", "b1/a/a"]:
            os.makedirs(os.path.join(top, folder), exist_ok=True)
            for name in ["a.tif", "b.tif", "1.tif", "ab1.tif", "a-1.tif", "!.tif", "A.tif"]:
                Path(top, folder, name).touch()
        yield top


@given(parts=st.lists(GLOB_TEXT | st.just("**"), max_size=3), last=GLOB_TEXT)
def test_glob_finds_what_the_standard_library_finds(
    forest: str, parts: list[str], last: str
) -> None:
    text = "/".join([*parts, f"{last}.tif"])
    here = glob.escape(forest)
    want = {p for p in glob.glob(f"{here}/{text}", recursive=True) if os.path.isfile(p)}
    taken = split_glob(f"{forest}/{text}", lambda path: False)
    if taken is None:  # a plain name
        assert want <= {f"{forest}/{text}"}
        return
    found = find_files(LocalStore(), taken.folder, taken.parts)
    assert set(found.urls) == want
    assert len(found) == len(want)


@given(st.text(), st.text())
def test_part_takes_what_fnmatch_takes_and_its_own_text(text: str, name: str) -> None:
    want = name == text or fnmatch.fnmatchcase(name, text)
    assert bool(GlobPart(text, text or None).fits(name)) is want


@given(GLOB_TEXT, NAMES)
def test_every_name_that_fits_begins_with_the_start(text: str, name: str) -> None:
    part = GlobPart(text, text)
    assert not fnmatch.fnmatchcase(name, text) or name.startswith(part.start)


@pytest.mark.parametrize(
    ("urlpath", "pattern", "folder"),
    [
        ("/raw/t{t:d}.tif", "t{t:d}.tif", "/raw/"),
        ("/raw/{well}/s{}_t{t:03d}.tif", "{well}/s{}_t{t:03d}.tif", "/raw/"),
        ("/raw/*/t{t}*.tif", "t{t}{}.tif", "/raw/"),
        ("/raw/**/{t:%Y%m%d}.tif", "{t:%Y%m%d}.tif", "/raw/"),
        ("s3://b/{x:f}/[a]?.tif", "{x:f}/[a]?.tif", "s3://b/"),
        ("/raw/{well}/", "{well}/{}", "/raw/"),
        ("/raw/*.tif", None, "/raw/"),
    ],
)
def test_field_in_a_urlpath_is_a_pattern(urlpath: str, pattern: str | None, folder: str) -> None:
    taken = split_glob(urlpath, lambda path: False)
    assert taken is not None
    assert (taken.pattern, taken.folder) == (pattern, folder)


@given(st.lists(st.sampled_from(["a1", "b", "[", "?", "]", ".", " "]), min_size=1), NAMES)
def test_all_but_fields_is_literal_in_a_pattern(texts: list[str], value: str) -> None:
    around = "".join(texts)
    taken = split_glob(f"/raw/{around}{{t}}{around}", lambda path: False)
    assert taken is not None
    assert bool(taken.parts[-1].fits(f"{around}{value}{around}"))
    assert not taken.parts[-1].fits(f"{around}{value}{around}x"[::-1] + "/")


def test_pattern_of_the_urlpath_is_handed_on(tree: Path) -> None:
    listing = list_files(f"{tree}/{{folder}}/x{{n:d}}.tif")
    assert listing.pattern == "{folder}/x{n:d}.tif"
    assert names_below(listing) == ["raw/x1.tif", "raw/x[1].tif"]  # matching is the pattern's
    assert list_files(f"{tree}/raw/t{{0}}.tif").pattern is None


def test_urlpaths_with_two_patterns_are_refused(tree: Path) -> None:
    with pytest.raises(OptionError, match=r"same \{field\} pattern, but got 'a\{n\}.tif' and"):
        list_files([f"{tree}/raw/a{{n}}.tif", f"{tree}/raw/x{{n}}.tif"])


def test_any_depth_behind_a_field_is_refused(tree: Path) -> None:
    with pytest.raises(OptionError, match=r"'\*\*' cannot follow a \{field\}"):
        list_files(f"{tree}/{{folder}}/**/*.tif")


# --- lists of URLs ------------------------------------------------------------------------------


def test_text_list_is_relative_to_its_own_folder(tree: Path) -> None:
    (tree / "lists").mkdir()
    lines = ["\ufeff# plate 1", "", "../raw/a1.tif", f"  {tree}/top.tif  ", "../raw/a1.tif", "#x"]
    (tree / "lists" / "all.txt").write_text("\n".join(lines), encoding="utf-8")
    listing = list_files(tree / "lists" / "all.txt")
    assert names_below(listing) == ["raw/a1.tif", "top.tif"]
    assert [file.size for file in listing.files] == [10, 7]
    assert listing.root == f"{tree}/"
    assert not listing.is_single


@pytest.mark.parametrize("header", ["url", "urlpath", "path"])
def test_csv_list_spares_the_stat_where_it_gives_a_size(tree: Path, header: str) -> None:
    rows = [
        ["well", header, "size", "mtime_ns", "etag"],
        ["B02", "gone.tif", "12", "34", ""],
        ["B03", "s3://bucket/k.tif", "56", "", '"e"'],
        ["B04", "raw/a1.tif", "", "", ""],
    ]
    with (tree / "all.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    a1 = stat_file(f"{tree}/raw/a1.tif", {})
    assert list(list_files(tree / "all.csv").files) == [
        File(f"{tree}/gone.tif", 12, 34, None),
        File("s3://bucket/k.tif", 56, -1, '"e"'),
        a1,
    ]


def test_csv_list_without_a_known_column_uses_the_first(tree: Path) -> None:
    (tree / "all.csv").write_text("file,well\nraw/a1.tif,B02\n\ntop.tif,B03\n")
    assert names_below(list_files(tree / "all.csv")) == ["raw/a1.tif", "top.tif"]


def test_parquet_list(tree: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"n": [1, 2], "url": ["raw/a1.tif", "gone.tif"], "size": [None, 12]}
    parquet.write_table(pyarrow.table(columns), tree / "all.parquet")
    listing = list_files(tree / "all.parquet")
    assert [(f.url, f.size) for f in listing.files] == [
        (f"{tree}/raw/a1.tif", 10),
        (f"{tree}/gone.tif", 12),
    ]


def test_list_in_a_store_is_relative_to_the_store(
    place: tuple[str, str, dict[str, Any]],
) -> None:
    start, end, options = place
    add(place, "lists/all.txt", b"../raw/a1.tif")
    listing = list_files(f"{start}lists/all.txt{end}", storage_options=options)
    assert listing.files.urls == (f"{start}raw/a1.tif{end}",)


@pytest.mark.parametrize(
    ("name", "content", "reported"),
    [
        ("all.txt", b"# none\n", "is a list of files, but it is empty"),
        ("all.txt", b"\xff\xfe\x00", "must be UTF-8 text"),
        ("all.csv", b"", "it is empty"),
        ("all.csv", b"raw/a1.tif\nraw/a2.tif\n", "must begin with a row of column names"),
        ("all.csv", b"url,size\nraw/a1.tif,big\n", "row 2: size must be a whole number.*'big'"),
        ("all.csv", b"well,url\nB02\n", "row 2: nothing in the column 'url'"),
        ("all.parquet", b"no parquet", "is not a Parquet file"),
    ],
)
def test_bad_list_is_refused(tree: Path, name: str, content: bytes, reported: str) -> None:
    (tree / name).write_bytes(content)
    with pytest.raises(OptionError, match=reported):
        list_files(tree / name)


def test_list_that_names_missing_files_is_refused(tree: Path) -> None:
    (tree / "all.txt").write_text("top.tif\n" + "".join(f"gone{n}.tif\n" for n in range(1000)))
    reported = r"names 1001 files, but 1000 of them are not there: '.*gone0.tif', '.*' and 998 more"
    with pytest.raises(FilesNotFoundError, match=reported) as caught:
        list_files(tree / "all.txt")
    assert len(str(caught.value)) < 600


# --- requests to S3 -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("urlpath", "methods"),
    [
        ("raw/a1.tif", ["GET", "GET"]),  # its first and its last bytes
        ("raw", ["GET"]),
        ("raw/", ["GET"]),
        ("raw/*.tif", ["GET"]),
        ("raw/x[1].tif", ["GET"]),
        ("raw/t{n}.tif", ["GET"]),
        ("raw/**/*.tif", ["GET"]),
        ("raw/p*/*.tif", ["GET", "GET"]),
        ("raw/*/z.tif", ["GET", "GET", "GET"]),
    ],
)
def test_s3_is_asked_once_a_folder(s3_server: S3Server, urlpath: str, methods: list[str]) -> None:
    s3_server.put("bucket-count", dict.fromkeys(TREE, b"12"))
    listing = list_files(f"s3://bucket-count/{urlpath}", storage_options=s3_server.storage_options)
    assert len(listing.files) > 0
    assert [request.method for request in s3_server.requests] == methods


def test_s3_lists_only_what_begins_as_the_glob_does(s3_server: S3Server) -> None:
    names = [*(f"{c}{n}.tif" for c in "ab" for n in range(3)), "a.zarr/0/0", "a.zarr/0/1.tif"]
    s3_server.put("bucket-prefix", dict.fromkeys((f"raw/{name}" for name in names), b""))
    options = s3_server.storage_options
    assert len(list_files("s3://bucket-prefix/raw/a*.tif", storage_options=options).files) == 3
    (request,) = s3_server.requests
    assert "delimiter=%2F" in request.query  # what lies in a.zarr is not listed
    assert "prefix=raw%2Fa&" in request.query


def test_s3_stat_is_one_fresh_request(s3_server: S3Server) -> None:
    s3_server.put("bucket-stat", {"a.tif": b"12"})
    options = s3_server.storage_options
    before = list_files("s3://bucket-stat/*.tif", storage_options=options).files[0]
    s3_server.put("bucket-stat", {"a.tif": b"34"})
    now = stat_file(before.url, options)
    assert [request.method for request in s3_server.requests] == ["HEAD"]
    assert not now.agrees_with(before)


def test_s3_cache_in_front_keeps_the_urls(s3_server: S3Server) -> None:
    s3_server.put("bucket-cache", {"raw/a.tif": b"12"})
    options = {"s3": s3_server.storage_options}
    listing = list_files("simplecache::s3://bucket-cache/raw/*.tif", storage_options=options)
    assert listing.files.urls == ("simplecache::s3://bucket-cache/raw/a.tif",)
    assert listing.root == "simplecache::s3://bucket-cache/raw/"
    assert stat_file(listing.files.urls[0], options) == listing.files[0]


def test_zip_in_s3(s3_server: S3Server, tree: Path) -> None:
    _zip(tree)
    s3_server.put("bucket-zip", {"x.zip": (tree / "x.zip").read_bytes()})
    options = {"s3": s3_server.storage_options}
    listing = list_files("zip://*.tif::s3://bucket-zip/x.zip", storage_options=options)
    assert listing.files.urls == ("zip://a.tif::s3://bucket-zip/x.zip",)


@pytest.mark.parametrize("urlpath", ["s3://no-such-bucket/*.tif", "s3://no-such-bucket/a.tif"])
def test_s3_bucket_that_is_not_there_is_named(s3_server: S3Server, urlpath: str) -> None:
    reported = r"no file found for s3://no-such-bucket/.*The specified bucket does not exist"
    with pytest.raises(FilesNotFoundError, match=reported):
        list_files(urlpath, storage_options=s3_server.storage_options)


# --- what stores refuse -------------------------------------------------------------------------


def test_http_folder_and_file(tree: Path) -> None:
    with serve_folder(tree) as server:
        listing = list_files(f"{server.url}/raw/")
        assert [request.method for request in server.requests] == ["GET"]
        assert names_below(listing) == names_below(list_files(tree / "raw"))
        assert {file.size for file in listing.files} == {-1}  # a page of links has no sizes
        server.requests.clear()
        file = list_files(f"{server.url}/raw/a 2.tif?token=1").files[0]
        # its first and its last bytes, which a server without ranges does not give
        assert [request.method for request in server.requests] == ["GET", "GET", "HEAD"]
        assert file.size == len("raw/a 2.tif")
        assert file.mtime_ns > 0
        assert names_below(list_files(f"{server.url}/raw")) == names_below(listing)
        assert names_below(list_files(f"{server.url}/raw/p[1]/*.tif")) == ["p[1]/z.tif"]
        with pytest.raises(FilesNotFoundError, match=r"holds 7 files .* did you mean 'a1.tif'"):
            list_files(f"{server.url}/raw/a3.tif")


def test_server_that_is_not_there_is_a_storage_error() -> None:
    for urlpath in ["http://127.0.0.1:9/a.tif", "http://127.0.0.1:9/*.tif"]:
        with pytest.raises(StorageError, match=r"cannot list or read http://127\.0\.0\.1:9/"):
            list_files(urlpath)


def test_archive_that_is_none_or_not_there_is_named(tree: Path) -> None:
    with pytest.raises(StorageError, match=r"top\.tif: BadZipFile: File is not a zip file"):
        list_files(f"zip://*.tif::{tree}/top.tif")
    with pytest.raises(FilesNotFoundError, match=r"No such file or directory: '.*none\.zip'"):
        list_files(f"zip://*.tif::{tree}/none.zip")


@pytest.mark.parametrize(
    ("urlpath", "reported"),
    [
        ("s4://bucket/*.tif", r"unknown protocol 's4'; did you mean s3://\?"),
        ("S3://bucket/*.tif", r"unknown protocol 'S3'; did you mean s3://\?"),
        ("qqqqqqqq://x/*.tif", r"fsspec\.available_protocols\(\) lists the known ones"),
    ],
)
def test_unknown_protocol_is_refused(urlpath: str, reported: str) -> None:
    with pytest.raises(OptionError, match=reported):
        list_files(urlpath)


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(filesystem, "get_filesystem_class", missing)
    with pytest.raises(StorageError, match=r"Install s3fs.*pip install 'intake-tiffstack\[s3\]'"):
        list_files("s3://bucket/*.tif")


def test_storage_options_that_do_not_fit_are_named_without_their_values(tree: Path) -> None:
    with serve_folder(tree) as server, pytest.raises(OptionError) as caught:
        list_files(f"{server.url}/raw/*.tif", storage_options={"sesame": "hunter2-hunter2"})
    assert "sesame" in str(caught.value)
    assert "hunter2" not in str(caught.value) + repr(caught.value.details)


def test_no_error_shows_a_secret(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    options = s3_server.storage_options

    async def refuse(filesystem: Any, method: str, *args: Any, **kwargs: Any) -> None:
        raise PermissionError(f"{KEY} with {SECRET} may not")

    monkeypatch.setattr(type(get_filesystem("s3://bucket", options)[0]), "_call_s3", refuse)
    renew_filesystem("s3://bucket", options)  # instances take their methods when they are made
    with pytest.raises(
        StorageError, match=r"PermissionError: \*\*\* with \*\*\* may not"
    ) as caught:
        list_files("s3://bucket-count/*.tif", storage_options=options)
    assert SECRET not in repr(caught.value) + repr(caught.value.details)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("/data/a.tif", True),
        ("a::b/c.tif", False),
        ("/data/a::b.tif", True),
        ("file:///a.tif", True),
        ("s3://b/a.tif", False),
        ("zip://a.tif::/x.zip", False),
        ("a.tif", True),
        ("./a::b.tif", True),
        ("~/a.tif", True),
    ],
)
def test_is_local(url: str, local: bool) -> None:
    assert is_local(url) is local


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"file,t\n" + b"x" * 200_000 + b",1\n"),
        ("a.parquet", b"PAR1" + b"\0" * 100 + b"PAR1"),
    ],
)
def test_a_damaged_table_is_an_error_of_this_package(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    limit = csv.field_size_limit(2**17)  # of the process: other packages raise it
    try:
        with pytest.raises(OptionError, match="is not a"):
            _ = open_stack(str(tmp_path / name)).shape
    finally:
        csv.field_size_limit(limit)
