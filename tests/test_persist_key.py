"""The name of a copy: what decides pixels is in it, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import intake
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import TiffStackSource
from intake_tiffstack.options import Options
from intake_tiffstack.persist.key import APPLIED_ON_TOP, DECIDES_PIXELS, pixel_key

BASE: dict[str, Any] = {"urlpath": "/data/raw/*.tif", "pattern": "c{c:d}_t{t:d}_{side}.tif"}

OTHER_PIXELS: dict[str, list[Any]] = {
    "urlpath": ["/data/raw/a*.tif", ["/data/raw/*.tif"]],
    "pattern": ["c{c:d}_t{t:d}_{}.tif"],
    "concat_dim": ["t", ["c", "t"], ["t", "c"]],
    "labels": [{"side": ["L", "R"]}, {"side": ["R", "L"]}],
    "sel": [
        {"c": 0},
        {"c": [0, 1]},
        {"t": {"from": 0, "to": 3}},
        {"t": np.datetime64("2020-01-01")},
    ],
    "exclude": ["*_thumb*"],
    "files": [{"t": [1, 2]}, {"t": [2, 1]}],
    "sizes": [{"t": 4}],
    "file_dims": ["zyx", ["x", "y", "z"], {"z": 2, "c": -1}, {"c": -1, "z": 2}],
    "dims": ["tcyx", "ctyx"],
    "series": [1],
    "level": [1],
    "missing": ["fill", "mask", "trim"],
    "fill_value": [7, 7.5, float("nan"), 1j],
    "duplicates": ["first", "last"],
    "unequal": ["pad"],
    "sets": ["ome", "ndtiff", "mmstack"],
    "layout": ["names", "sidecar"],
    "sidecars": [["pam"], ["worldfile"]],
    "place": ["georeference"],
    "overlap": ["last", "first", "max", "mean"],
}
SAME_PIXELS: dict[str, list[Any]] = {
    "storage_options": [{"key": "a", "secret": "b"}, {"token": "c", "client_kwargs": {"x": 1}}],
    "chunks": ["file", {"t": 1}],
    "coords": [{"c": ["a", "b"]}],
    "channel_names": [["GFP", "RFP"], {0: "GFP"}],
    "scale": [{"y": 0.1}],
    "translation": [{"y": 5}],
    "units": [{"y": "um"}],
    "unmatched": ["ignore"],
    "validate": ["all"],
    "on_error": ["fill"],
    "header_index": ["/data/headers.parquet"],
    "mask_and_scale": [True],
    "arraytype": ["cupy"],
    "persist_mode": ["never"],
    "on_stale": ["refresh"],
}


def key(**options: Any) -> str:
    return pixel_key(Options.parse({**BASE, **options}))


def test_each_option_either_decides_pixels_or_does_not() -> None:
    assert {field.name for field in fields(Options)} == DECIDES_PIXELS | APPLIED_ON_TOP
    assert not DECIDES_PIXELS & APPLIED_ON_TOP
    assert set(OTHER_PIXELS) == DECIDES_PIXELS
    assert set(SAME_PIXELS) == APPLIED_ON_TOP


def test_what_decides_pixels_changes_the_key() -> None:
    keys = [key()]
    keys += [key(**{name: value}) for name, values in OTHER_PIXELS.items() for value in values]
    assert len(set(keys)) == len(keys)


@given(st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in SAME_PIXELS.items()}))
def test_all_else_leaves_it(options: dict[str, Any]) -> None:
    assert key(**options) == key()


def test_a_label_is_a_name_and_its_place_decides() -> None:
    assert key(labels={"side": {"L": "left", "R": "right"}}) == key(labels={"side": ["L", "R"]})
    assert key(labels={"side": {"R": "right", "L": "left"}}) == key(labels={"side": ["R", "L"]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"concat_dim": "t"}, {"concat_dim": ["t"]}),
        ({"sel": {"c": 0, "t": 1}}, {"sel": "{t: 1, c: 0}"}),
        ({"sel": {"c": np.int64(3)}}, {"sel": {"c": 3}}),
        ({"sel": {"c": (0, 1)}}, {"sel": {"c": np.array([0, 1])}}),
        ({"series": "0"}, {}),
        ({"missing": "raise", "fill_value": None, "labels": {}}, {}),
        ({"urlpath": "/data//raw/../raw/*.tif"}, {}),
        ({"urlpath": "/data/raw/"}, {"urlpath": "/data/raw"}),
    ],
    ids=["text or list", "order of sel", "numpy", "tuple", "text", "defaults", "path", "slash"],
)
def test_the_same_said_otherwise_is_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert key(**one) == key(**other)


def test_a_store_is_reported_by_its_address_and_not_by_its_keys() -> None:
    s3 = "s3://bucket/*.tif"

    def at(**options: Any) -> str:
        return key(urlpath=s3, storage_options=options)

    assert at(key="a", secret="b") == at(anon=True) == at()
    assert at(endpoint_url="http://one") != at(endpoint_url="http://two")
    assert at(endpoint_url="http://one") == at(client_kwargs={"endpoint_url": "http://one/"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"org": "a", "repo": "b", "sha": "1"}, {"org": "a", "repo": "b", "sha": "2"}),
        ({"connection_string": "AccountName=a;AccountKey=k"},
         {"connection_string": "AccountName=b;AccountKey=k"}),
        ({"target_options": {"revision": "v1"}}, {"target_options": {"revision": "v2"}}),
    ],
    ids=["GitHub", "Azure", "deeper"],
)  # fmt: skip
def test_options_that_say_which_files_are_meant_decide(one, other) -> None:
    urlpath = "store://raw/*.tif"
    assert key(urlpath=urlpath, storage_options=one) != key(urlpath=urlpath, storage_options=other)


def test_the_key_of_an_azure_account_is_no_part_of_it() -> None:
    def at(secret: str) -> str:
        account = {"connection_string": f"AccountName=a;AccountKey={secret}"}
        return key(urlpath="az://raw/*.tif", storage_options=account)

    assert at("one") == at("two")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("abfs://one@lab.dfs.core.windows.net/*.tif", "abfs://two@lab.dfs.core.windows.net/*.tif"),
        ("https://host/get?key=one.tif", "https://host/get?key=two.tif"),
        (["abfs://one@lab/a", "abfs://two@lab/b"], ["abfs://two@lab/a", "abfs://one@lab/b"]),
    ],
    ids=["container", "name of an object", "which of them"],
)
def test_what_is_hidden_of_a_url_may_be_a_name(one, other) -> None:
    assert key(urlpath=one) != key(urlpath=other)


def test_a_password_in_a_url_is_no_part_of_the_key() -> None:
    assert key(urlpath="https://one@host/a.tif") == key(urlpath="https://two@host/a.tif")
    assert key(urlpath="sftp://me:one@host/a.tif") == key(urlpath="sftp://me:two@host/a.tif")
    assert key(urlpath="https://me:one@host/a.tif") == key(urlpath="https://me:two@host/a.tif")
    assert key(urlpath="https://host/a.tif?sig=1") == key(urlpath="https://host/a.tif?sig=2")
    assert key(urlpath="https://host/a.tif?v=1") != key(urlpath="https://host/a.tif?v=2")


def test_a_relative_path_is_the_path_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert key(urlpath="raw/*.tif") == key(urlpath=f"{tmp_path}/raw/*.tif")


def test_the_key_of_these_options_is_this_for_ever() -> None:
    """A key that changes loses every copy there is."""
    options = Options.parse({**BASE, "sel": {"c": [0, 1]}, "missing": "fill", "fill_value": 7})
    assert pixel_key(options) == "136ed08c50e245829d49dceafe9f61a6"


def test_the_key_is_the_same_in_another_process_and_after_discover(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "c0_t0_L.tif", np.zeros((4, 5), np.uint8))
    (tmp_path / "lab.yml").write_text(
        "sources:\n  scan:\n    driver: tiffstack\n    args:\n"
        f'      urlpath: "{{{{ CATALOG_DIR }}}}/*.tif"\n      pattern: "{BASE["pattern"]}"\n'
        "      sel: {side: [L, R, L]}\n      labels: {side: {R: r, L: l}}\n"
    )
    code = (
        "import intake, sys\nfrom intake_tiffstack.persist import pixel_key\n"
        "print(pixel_key(intake.open_catalog(sys.argv[1]).scan.options))"
    )
    source = intake.open_catalog(str(tmp_path / "lab.yml")).scan(sel={"side": "L"})
    before = pixel_key(source.options)
    source.discover()
    assert pixel_key(source.options) == before
    reported = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lab.yml")],
        env={"PYTHONHASHSEED": "1", "HOME": str(tmp_path)},  # here it is another
        capture_output=True,
        check=True,
        text=True,
    ).stdout.strip()
    again = intake.open_catalog(str(tmp_path / "lab.yml")).scan
    assert reported == pixel_key(again.options)
    assert reported == pixel_key(replace(again.options, chunks="file"))
    assert isinstance(again, TiffStackSource)
