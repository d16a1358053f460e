"""The options of export() and persist(): one place holds their names, defaults and choices."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from intake_tiffstack import TiffStack, TiffStackSource, open_stack
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.formats import FORMATS, find_writer
from intake_tiffstack.export.options import DEFAULTS, OPTIONS, PersistOptions
from intake_tiffstack.options import option_signature

OF_THE_COLLECTION = {
    "source",
    "url",
    "dims",
    "coords",
    "attrs",
    "granule",
    "present",
    "pyramid",
    "origin",
    "labels_of",
}


@pytest.fixture
def stack(tmp_path: Path) -> TiffStack:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 8), "uint8"), photometric="minisblack")
    return open_stack(tmp_path / "a.tif")


@pytest.mark.parametrize("format", OPTIONS)
def test_the_options_of_a_format_are_those_of_its_writer(format: str) -> None:
    parameters = inspect.signature(find_writer(format)).parameters
    defaults = {n: p.default for n, p in parameters.items() if n not in OF_THE_COLLECTION}
    if format == "ome-zarr":
        assert defaults["zarr_format"] is None  # that of the version
        defaults["zarr_format"] = DEFAULTS["zarr_format"]
    assert defaults == {name: DEFAULTS[name] for name in OPTIONS[format].__annotations__}


def test_every_format_has_options() -> None:
    assert set(OPTIONS) == set(FORMATS)


@pytest.mark.parametrize("format", OPTIONS)
@pytest.mark.parametrize("verify", ["sampel", True, None, ["all"], np.array(["all", "all"])])
def test_a_wrong_choice_is_refused_by_every_format(
    stack: TiffStack, tmp_path: Path, format: Any, verify: Any
) -> None:
    with pytest.raises(OptionError, match=r"^verify must be 'sample', 'all' or False, but got "):
        stack.export(tmp_path / "out.json", format=format, verify=verify)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("format", "option", "value", "choices"),
    [
        ("zarr", "zarr_format", 4, "2 or 3"),
        ("zarr", "overwrite", "no", "True or False"),
        ("zarr", "resume", None, "True or False"),
        ("ome-zarr", "version", "0.7", "'0.4', '0.5' or '0.6'"),
        ("ome-zarr", "downsample", "max", "'mean', 'nearest' or 'mode'"),
        ("references", "overwrite", "no", "True or False"),
    ],
)
def test_the_choices_are_named(
    stack: TiffStack, tmp_path: Path, format: Any, option: str, value: Any, choices: str
) -> None:
    with pytest.raises(OptionError, match=f"^{option} must be {choices}, but got {value!r}"):
        stack.export(tmp_path / "out.json", format=format, **{option: value})


def test_an_option_of_another_format_is_unknown(stack: TiffStack, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"unknown option of export\(\) 'levels'"):
        stack.export(tmp_path / "out.zarr", levels=2)


def test_persist_checks_choices_too(stack: TiffStack, tmp_path: Path) -> None:
    source = TiffStackSource(tmp_path / "a.tif")
    with pytest.raises(OptionError, match=r"^verify must be 'sample', 'all' or False, but got 'sa"):
        source.persist(verify="sampel")


@pytest.mark.parametrize("cls", [TiffStack, TiffStackSource], ids=lambda cls: cls.__name__)
def test_the_signature_of_export_shows_every_option(cls: Any) -> None:
    parameters = inspect.signature(cls.export).parameters
    assert list(parameters)[:4] == ["self", "url", "format", "attrs"]
    assert {n: p.default for n, p in list(parameters.items())[4:]} == dict(DEFAULTS)


@pytest.mark.parametrize("name", ["persist", "repersist"])
def test_the_signature_of_persist_shows_every_option(name: str) -> None:
    parameters = inspect.signature(getattr(TiffStackSource, name)).parameters
    assert set(parameters) - {"self", "ttl"} == set(PersistOptions.__annotations__)


def test_the_signature_of_each_way_in_shows_every_option() -> None:
    options = list(option_signature().parameters)
    assert list(inspect.signature(open_stack).parameters) == options
    assert list(inspect.signature(TiffStackSource).parameters) == [*options, "metadata"]
