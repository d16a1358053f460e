"""Paths of Windows, as text: drives, backslashes and shares; on any system."""

from __future__ import annotations

import ntpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack.listing.list_files import _entry_url
from intake_tiffstack.storage import urls
from intake_tiffstack.storage.urls import absolute_url, first_relative, is_local, windows_path

PARTS = st.lists(
    st.one_of(st.text("ab *?{}[].-é", min_size=1, max_size=5), st.just("..")),
    min_size=1,
    max_size=5,
)


@pytest.fixture
def _windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the current folder of a Windows machine; nothing is opened."""
    monkeypatch.setattr(urls, "ON_WINDOWS", True)
    monkeypatch.setattr(urls.os, "getcwd", lambda: r"C:\Users\me")


@pytest.mark.usefixtures("_windows")
@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (r"C:\data\raw\*.tif", "C:/data/raw/*.tif"),
        (r"C:\data\raw" + "\\", "C:/data/raw/"),
        ("c:/data//raw/./a.tif", "c:/data/raw/a.tif"),
        (r"raw\t{t:d}.tif", "C:/Users/me/raw/t{t:d}.tif"),
        (r"..\raw", "C:/Users/raw"),
        (r"\\server\share\raw\a.tif", "//server/share/raw/a.tif"),
        (r"\data\a.tif", "C:/data/a.tif"),
        ("file:///D:/data/a.tif", "D:/data/a.tif"),
        ("zip://*.tif::D:\\data\\x.zip", "zip://*.tif::D:/data/x.zip"),
        ("s3://bucket/raw/a.tif", "s3://bucket/raw/a.tif"),
    ],
)
def test_a_path_becomes_absolute_with_slashes(given_: str, expected: str) -> None:
    assert absolute_url(given_) == expected
    assert absolute_url(expected) == expected


@given(parts=PARTS, sep=st.sampled_from("\\/"), drive=st.sampled_from(["", "C:\\", "d:/"]))
def test_windows_itself_sees_the_same_file(parts: list[str], sep: str, drive: str) -> None:
    path = drive + sep.join(parts)
    found = windows_path(path, "C:\\Users\\me")
    assert "\\" not in found
    assert ntpath.isabs(found)
    expected = ntpath.normpath(ntpath.join("C:\\Users\\me", path))
    assert ntpath.normcase(ntpath.normpath(found)) == ntpath.normcase(expected)
    assert windows_path(found, "E:\\") == found


def test_a_path_with_a_drive_is_local_and_not_relative() -> None:
    for path in (r"C:\data\a.tif", "C:/data/a.tif", r"\\server\share\a.tif"):
        assert is_local(path)
        assert first_relative(path) is None
    assert first_relative(r"raw\a.tif") == r"raw\a.tif"


@pytest.mark.usefixtures("_windows")
def test_an_entry_of_a_list_is_relative_to_the_list() -> None:
    assert _entry_url("raw/a.tif", "C:/lists/all.csv") == "C:/lists/raw/a.tif"
    assert _entry_url(r"D:\raw\a.tif", "C:/lists/all.csv") == "D:/raw/a.tif"
