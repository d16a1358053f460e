"""The Intake source: catalogs, overrides, identity, secrets."""

from __future__ import annotations

import inspect
import pickle
import shutil
import warnings
from copy import deepcopy
from datetime import UTC, date, datetime
from pathlib import Path
from textwrap import dedent

import dask.array as da
import intake
import numpy as np
import pytest
import tifffile
import xarray as xr
import yaml
from intake.catalog.local import UserParameter

from intake_tiffstack import TiffStack, TiffStackSource, TiffStackZarrSource, open_stack
from intake_tiffstack.driver import zarr_source
from intake_tiffstack.errors import (
    EntryError,
    FileChangedError,
    FilesNotFoundError,
    OptionError,
    TargetExistsError,
    TiffStackError,
    TiffStackWarning,
)
from intake_tiffstack.export.formats import FORMATS, find_writer
from intake_tiffstack.header import open_header
from intake_tiffstack.labelled.attributes import decode_attrs

# Intake says so of every parameter whose default is text, though none asks for a shell command.
pytestmark = pytest.mark.filterwarnings("ignore:Shell command not executed:UserWarning")

CATALOG = """
metadata:
  version: 1
sources:
  scan:
    driver: tiffstack
    description: a scan
    metadata: {owner: lab, dims: [mine]}
    parameters:
      sensor:
        description: which sensor
        type: str
        default: S1
        allowed: [S1, S2]
    args:
      urlpath: "{{ CATALOG_DIR }}/raw/{{ sensor }}/*.tif"
      pattern: "c{c:d}_t{t:d}.tif"
      concat_dim: [c, t]
"""


def write_scan(folder: Path, first: int) -> np.ndarray:
    """Write 2 channels x 3 times of 4 x 5 pixels, and return them stacked."""
    folder.mkdir(parents=True)
    pixels = np.arange(first, first + 120, dtype=np.uint16).reshape(2, 3, 4, 5)
    for c, t in np.ndindex(2, 3):
        tifffile.imwrite(folder / f"c{c}_t{t}.tif", pixels[c, t])
    return pixels


@pytest.fixture
def scans(tmp_path: Path) -> dict[str, np.ndarray]:
    (tmp_path / "catalog.yml").write_text(CATALOG)
    return {name: write_scan(tmp_path / "raw" / name, i) for i, name in enumerate(["S1", "S2"])}


@pytest.fixture
def catalog(scans: dict[str, np.ndarray], tmp_path: Path) -> intake.Catalog:
    return intake.open_catalog(str(tmp_path / "catalog.yml"))


def test_an_entry_opens_as_one_dask_array(catalog, scans):
    array = catalog.scan.to_dask()
    assert isinstance(array, da.Array)
    np.testing.assert_array_equal(array.compute(), scans["S1"])


def test_open_tiffstack_takes_the_same_options(scans, tmp_path):
    source = intake.open_tiffstack(f"{tmp_path}/raw/S2/*.tif", pattern="c{c:d}_t{t:d}.tif")
    assert source.to_xarray().dims == ("t", "c", "y", "x")
    np.testing.assert_array_equal(source.read(), scans["S2"].swapaxes(0, 1))


def test_the_signature_is_that_of_open_stack_and_metadata():
    ours = inspect.signature(TiffStackSource).parameters
    assert [n for n in ours if n != "metadata"] == list(inspect.signature(open_stack).parameters)
    assert {n: p.default for n, p in ours.items() if n != "metadata"} == {
        n: p.default for n, p in inspect.signature(open_stack).parameters.items()
    }


def test_discover_fills_the_metadata_of_this_instance_alone(catalog):
    source = catalog.scan
    found = source.discover()
    assert found["shape"] == (2, 3, 4, 5)
    assert found["dtype"] == np.uint16
    assert found["npartitions"] == 1
    assert source.metadata["dims"] == ["mine"], "the entry's own key should win"
    assert source.metadata["owner"] == "lab"
    assert source.metadata["shape"] == [2, 3, 4, 5]
    source.metadata["scale"] = "mine"
    assert catalog.scan(sensor="S2").metadata["scale"] == {}


def test_metadata_are_there_without_opening_first(catalog, tmp_path):
    assert catalog.scan.metadata["dtype"] == "uint16"
    copy = catalog.scan.export(str(tmp_path / "scan.zarr"))
    assert copy.metadata["shape"] == [2, 3, 4, 5]


def test_metadata_of_what_cannot_be_opened_raise_what_opening_would(tmp_path):
    source = intake.open_tiffstack(str(tmp_path / "*.tif"))
    with pytest.raises(FilesNotFoundError, match="no file found"):
        _ = source.metadata


def test_nothing_is_opened_to_list_show_or_send_entries(catalog, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a collection was opened")

    monkeypatch.setattr("intake_tiffstack.stack.open_collection", refuse)
    assert list(catalog) == ["scan"]
    assert list(catalog.walk()) == ["scan"]
    assert list(catalog.search("scan")) == ["scan"]
    for source in (catalog.scan, catalog.scan(sensor="S2")):
        assert source.describe()["metadata"]["owner"] == "lab"
        assert "owner: lab" in source.yaml()
        assert "scan" in repr(source) + source._repr_html_()
        assert pickle.loads(pickle.dumps(source)) == source
        source.metadata = {"set": "by Intake"}
    with pytest.raises(AssertionError, match="opened"):
        _ = catalog.scan.metadata


def test_overrides_chain(catalog, scans):
    source = catalog.scan(sensor="S2")(chunks="file")
    array = source.to_dask()
    assert array.numblocks == (2, 3, 1, 1)
    np.testing.assert_array_equal(array.compute(), scans["S2"])


@pytest.mark.parametrize("method", ["__call__", "get", "configure_new"])
def test_every_way_to_override_keeps_what_was_given_before(catalog, scans, method):
    source = getattr(catalog.scan(sensor="S2"), method)(sel={"c": 1})
    np.testing.assert_array_equal(source.read(), scans["S2"][1:])
    assert (source.name, source.cat.name, source.entry.name) == ("scan", catalog.name, "scan")


def test_a_parameter_given_later_keeps_the_options_given_before(catalog, scans):
    source = catalog.scan(chunks="file", sel={"t": 2})(sensor="S2")
    assert source.to_dask().numblocks == (2, 1, 1, 1)
    np.testing.assert_array_equal(source.read(), scans["S2"][:, 2:])


def test_an_override_may_use_a_template(catalog, scans):
    source = catalog.scan(urlpath="{{ CATALOG_DIR }}/raw/S2/*.tif")
    np.testing.assert_array_equal(source.read(), scans["S2"])


def test_a_value_outside_a_parameters_bounds_is_refused(catalog):
    with pytest.raises(ValueError, match="S9"):
        catalog.scan(sensor="S9")


def test_nested_catalogs_and_environment(scans, tmp_path, monkeypatch):
    monkeypatch.setenv("SCAN_FOLDER", str(tmp_path / "raw"))
    (tmp_path / "inner.yml").write_text(
        dedent("""
        sources:
          scan:
            driver: tiffstack
            args: {urlpath: "{{ env(SCAN_FOLDER) }}/S1/*.tif", pattern: "c{c:d}_t{t:d}.tif"}
        """)
    )
    (tmp_path / "outer.yml").write_text(
        dedent("""
        sources:
          lab: {driver: yaml_file_cat, args: {path: "{{ CATALOG_DIR }}/inner.yml"}}
        """)
    )
    source = intake.open_catalog(str(tmp_path / "outer.yml")).lab.scan
    np.testing.assert_array_equal(source.read(), scans["S1"].swapaxes(0, 1))
    assert source.cat.cat is not None


# -- entries that contradict themselves -----------------------------------------------------------


def open_entry(tmp_path: Path, body: str) -> TiffStackSource:
    path = tmp_path / "other.yml"
    path.write_text("sources:\n  scan:\n    driver: tiffstack\n" + body)
    return intake.open_catalog(str(path)).scan


@pytest.mark.parametrize(
    ("name", "meant"), [("sensr", "sensor"), ("SENSOR", "sensor"), ("catalog_dir", "CATALOG_DIR")]
)
def test_a_template_name_that_is_no_parameter_is_named(scans, tmp_path, name, meant):
    source = open_entry(
        tmp_path,
        f"""
    parameters: {{sensor: {{description: s, type: str, default: S1}}}}
    args: {{urlpath: "/data/raw/{{{{ {name} }}}}/*.tif"}}
""",
    )
    with pytest.raises(EntryError, match=rf"'{name}'.*did you mean '{meant}'"):
        source.to_dask()


def test_a_parameter_with_the_name_of_an_argument_validates_and_coerces_it(scans, tmp_path):
    source = open_entry(
        tmp_path,
        """
    parameters:
      chunks: {description: s, type: str, default: file, allowed: [file, page, auto]}
      fill_value: {description: f, type: int, max: 9}
    args: {urlpath: "{{ CATALOG_DIR }}/raw/S1/*.tif", chunks: file, fill_value: "7"}
""",
    )
    assert source.options.chunks == "file"
    assert source.options.fill_value == 7
    assert source(fill_value="8").options.fill_value == 8
    assert source(chunks="auto")(fill_value=9).options.chunks == "auto"
    with pytest.raises(OptionError, match="'fill_value' of entry 'scan' must be int, max 9, but"):
        source(fill_value=10)
    with pytest.raises(OptionError, match=r"allowed \['file', 'page', 'auto'\], but got '3 MiB'"):
        source(chunks="3 MiB")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"first": 3}, "parameter 'first' of entry 'scan' must be int, min 0, max 2, but got 3"),
        ({"first": "one"}, "parameter 'first' of entry 'scan' must be int, .* but got 'one'"),
        ({"which": 1}, "parameter 'which' of entry 'scan' must be list, but got 1"),
        ({"which": "0 1"}, "parameter 'which' of entry 'scan' must be list, but got '0 1'"),
        ({"frist": 1}, r"unknown option 'frist'; did you mean 'first'\?"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_takes(scans, tmp_path, given, message):
    source = open_entry(
        tmp_path,
        """
    parameters:
      first: {description: f, type: int, default: 0, min: 0, max: 2}
      which: {description: w, type: list, default: [0]}
    args:
      urlpath: "{{ CATALOG_DIR }}/raw/S1/*.tif"
      pattern: "c{c:d}_t{t:d}.tif"
      sel: "{'t': {'from': {{ first }}}, 'c': {{ which }}}"
""",
    )
    with pytest.raises(OptionError, match=message) as raised:
        source(**given)
    assert type(pickle.loads(pickle.dumps(raised.value))) is OptionError


def test_a_parameter_with_the_name_of_an_option_gives_its_default(scans, tmp_path):
    source = open_entry(
        tmp_path,
        """
    parameters:
      chunks: {description: s, type: str, default: file, allowed: [file, auto]}
      level: {description: l, type: int}
    args: {urlpath: "{{ CATALOG_DIR }}/raw/S1/*.tif", pattern: "c{c:d}_t{t:d}.tif"}
""",
    )
    assert source.to_dask().numblocks == (3, 2, 1, 1)
    assert pickle.loads(pickle.dumps(source)).to_dask().numblocks == (3, 2, 1, 1)
    assert source(chunks="auto").to_dask().npartitions == 1
    with pytest.raises(OptionError, match=r"allowed \['file', 'auto'\], but got 'page'"):
        source(chunks="page")


# -- parameters of catalogs, and values that only a call gives -------------------------------------

SHARED = """
metadata:
  parameters:
    sensor: {description: which, type: str, default: S1, allowed: [S1, S2]}
sources:
  scan:
    driver: tiffstack
    args:
      urlpath: "{{ CATALOG_DIR }}/raw/{{ sensor }}/*.tif"
      pattern: "c{c:d}_t{t:d}.tif"
      concat_dim: [c, t]
"""


def shared_catalog(tmp_path: Path) -> intake.Catalog:
    (tmp_path / "shared.yml").write_text(SHARED)
    return intake.open_catalog(str(tmp_path / "shared.yml"))


def constructed_catalog(tmp_path: Path) -> intake.Catalog:
    sources = SHARED[SHARED.index("sources:") :]
    (tmp_path / "constructed.yml").write_text(sources)
    parameter = UserParameter("sensor", "which", "str", "S1", allowed=["S1", "S2"])
    return intake.open_catalog(
        str(tmp_path / "constructed.yml"), user_parameters={"sensor": parameter}
    )


@pytest.mark.parametrize("make", [shared_catalog, constructed_catalog])
@pytest.mark.parametrize(
    "again",
    [lambda s: pickle.loads(pickle.dumps(s)), deepcopy],
    ids=["pickle", "deepcopy"],
)
def test_parameters_of_a_catalog_survive(scans, tmp_path, make, again):
    source = make(tmp_path).scan
    copied = again(source)
    np.testing.assert_array_equal(copied.read(), scans["S1"])
    np.testing.assert_array_equal(copied(sensor="S2").read(), scans["S2"])
    np.testing.assert_array_equal(again(source(sensor="S2"))(sel={"c": 1}).read(), scans["S2"][1:])
    with pytest.raises(ValueError, match="S9"):
        copied(sensor="S9")
    assert copied == source


def test_a_parameter_of_the_catalog_that_an_entry_does_not_use_is_no_option(scans, tmp_path):
    (tmp_path / "shared.yml").write_text(SHARED.replace("{{ sensor }}", "S2"))
    source = intake.open_catalog(str(tmp_path / "shared.yml")).scan(sensor="S1", sel={"c": 0})
    np.testing.assert_array_equal(source.read(), scans["S2"][:1])
    assert "sensor" not in yaml.safe_load(source.yaml())["sources"]["scan"]["args"]


GIVEN_IN_A_CALL = """
    args:
      urlpath: "{{ CATALOG_DIR }}/raw/{{ sensor }}/*.tif"
      pattern: "{{ start }}{c:d}_t{t:d}.tif"
      concat_dim: [c, t]
"""


def test_the_value_of_a_template_may_be_given_in_the_call_alone(scans, tmp_path):
    source = open_entry(tmp_path, GIVEN_IN_A_CALL)
    for given in (source(sensor="S2", start="c"), source(sensor="S2")(start="c")):
        np.testing.assert_array_equal(given.read(), scans["S2"])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(given)).read(), scans["S2"])
        np.testing.assert_array_equal(given(sensor="S1", sel={"c": 0}).read(), scans["S1"][:1])
        (tmp_path / "again.yml").write_text(given.yaml())
        again = intake.open_catalog(str(tmp_path / "again.yml")).scan
        np.testing.assert_array_equal(again.read(), scans["S2"])
        np.testing.assert_array_equal(again(sensor="S1").read(), scans["S1"])
    with pytest.raises(EntryError, match=r"'sensor'.* as in scan\(sensor=\.\.\.\)"):
        source(start="c").to_dask()


def test_a_whole_urlpath_may_be_given_in_the_call_alone(scans, tmp_path):
    source = open_entry(
        tmp_path,
        '    args: {urlpath: "{{ where }}", level: "{{ level_of }}", concat_dim: file}',
    )
    with pytest.raises(EntryError, match="'level_of'"):
        source.to_dask()
    assert source(where=f"{tmp_path}/raw/S1", level_of=0).to_dask().shape == (6, 4, 5)


@pytest.mark.parametrize(
    "spelled", ["['{}/S1/*.tif', '{}/S2/*.tif']", "[{}/S1/*.tif, {}/S2/*.tif]"]
)
def test_the_text_of_a_list_is_a_list_of_urls(scans, tmp_path, spelled):
    urlpath = spelled.replace("{}", f"{tmp_path}/raw")
    source = intake.open_tiffstack(urlpath, pattern="{s}/c{c:d}_t{t:d}.tif")
    np.testing.assert_array_equal(source.read()[:, :, :].shape[-2:], (4, 5))
    assert source.options.urlpath == [f"{tmp_path}/raw/S1/*.tif", f"{tmp_path}/raw/S2/*.tif"]
    (tmp_path / "again.yml").write_text(source.yaml())
    again = intake.open_catalog(str(tmp_path / "again.yml"))["tiffstack"]
    assert again.options.urlpath == source.options.urlpath


def test_the_text_of_a_list_in_an_entry_opens_again_by_its_yaml(scans, tmp_path):
    folder = "{{ CATALOG_DIR }}/raw/S1"
    body = f"""    args: {{urlpath: "['{folder}/c1_t0.tif', '{folder}/c0_t0.tif']"}}"""
    source = open_entry(tmp_path, body)
    np.testing.assert_array_equal(source.read(), scans["S1"][[1, 0], 0])
    (tmp_path / "again.yml").write_text(source.yaml())
    again = intake.open_catalog(str(tmp_path / "again.yml")).scan
    np.testing.assert_array_equal(again.read(), scans["S1"][[1, 0], 0])


def test_a_list_parameter_makes_a_list_of_urls(scans, tmp_path):
    source = open_entry(
        tmp_path,
        """
    parameters: {sensors: {description: which, type: list, default: [S1]}}
    args:
      urlpath: "[{% for s in sensors %}'{{ CATALOG_DIR }}/raw/{{ s }}/c0_t*.tif', {% endfor %}]"
""",
    )
    expected = np.concatenate([scans["S2"][0], scans["S1"][0]])
    np.testing.assert_array_equal(source(sensors=["S2", "S1"]).read(), expected)
    np.testing.assert_array_equal(source.read(), scans["S1"][0])  # and warns of nothing
    with pytest.raises(OptionError, match="urlpath is missing"):
        source(sensors=[]).to_dask()


def test_the_double_slash_behind_the_folder_of_the_catalog_is_one(scans, tmp_path):
    source = open_entry(
        tmp_path,
        """
    args:
      urlpath: "{{ CATALOG_DIR }}/raw/*/*.tif"
      pattern: "{{ CATALOG_DIR }}/raw/{s}/c{c:d}_t{t:d}.tif"
      concat_dim: [s, c, t]
""",
    )
    np.testing.assert_array_equal(source.read(), [scans["S1"], scans["S2"]])
    assert "//" not in source.yaml()


def test_the_double_slash_behind_the_folder_of_a_catalog_in_a_bucket(scans, tmp_path, s3_server):
    files = {f"lab/raw/{p.name}": p.read_bytes() for p in (tmp_path / "raw/S1").iterdir()}
    text = SHARED.replace("/raw/{{ sensor }}/", "/raw/")
    s3_server.put("driver-slash", {**files, "lab/cat.yml": text.encode()})
    catalog = intake.open_catalog(
        "s3://driver-slash/lab/cat.yml", storage_options=s3_server.storage_options
    )
    source = catalog.scan(storage_options=s3_server.storage_options)
    np.testing.assert_array_equal(source.read(), scans["S1"])


# -- environment variables -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        '    args: {urlpath: "{{ env(NO_SUCH_PLACE) }}/*.tif"}',
        """    args: {urlpath: "{{ env('NO_SUCH_PLACE') ~ '/raw' }}/*.tif"}""",
        """    args: {urlpath: "{{ env('NO_SUCH_PLACE') + '/raw' }}/*.tif"}""",
        """    args: {urlpath: "{{ env('NO_SUCH_PLACE').rstrip('/') }}/*.tif"}""",
        """    args: {urlpath: "{{ env('NO_SUCH_PLACE') | trim }}/*.tif"}""",
        """    args: {urlpath: "s3://b/x", storage_options: {key: "{{ env('NO_SUCH_PLACE') }}"}}""",
        """
    parameters: {where: {description: w, type: str, default: "env(NO_SUCH_PLACE)"}}
    args: {urlpath: "{{ where }}/*.tif"}""",
    ],
    ids=["bare", "expression", "sum", "method", "filter", "nested", "parameter"],
)
def test_an_environment_variable_that_is_not_set_is_named(scans, tmp_path, monkeypatch, body):
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    with pytest.raises(EntryError, match="environment variable 'NO_SUCH_PLACE', which is not set"):
        open_entry(tmp_path, body).to_dask()
    monkeypatch.setenv("NO_SUCH_PLACE", str(tmp_path / "raw/S1"))
    assert open_entry(tmp_path, body).options


@pytest.mark.parametrize(
    "where",
    [
        "env('NO_SUCH_PLACE') or CATALOG_DIR ~ 'raw/S1'",
        "env('NO_SUCH_PLACE').rstrip('/') or CATALOG_DIR ~ 'raw/S1'",
        "env('NO_SUCH_PLACE', FOLDER)",
    ],
)
def test_a_default_stands_for_an_environment_variable(scans, tmp_path, monkeypatch, where):
    monkeypatch.delenv("NO_SUCH_PLACE", raising=False)
    where = where.replace("FOLDER", repr(str(tmp_path / "raw/S1")))
    source = open_entry(
        tmp_path, f'    args: {{urlpath: "{{{{ {where} }}}}/*.tif", concat_dim: file}}'
    )
    assert source.to_dask().shape == (6, 4, 5)


def test_a_parameter_that_templates_use_gives_numbers_lists_and_dicts(scans, tmp_path):
    source = open_entry(
        tmp_path,
        """
    parameters:
      chunks: {description: s, type: dict, default: {t: 1}}
      which: {description: s, type: list, default: [0, 2]}
    args:
      urlpath: "{{ CATALOG_DIR }}/raw/S1/*.tif"
      pattern: "c{c:d}_t{t:d}.tif"
      chunks: "{{ chunks }}"
      sel: {t: "{{ which }}"}
""",
    )
    array = source.to_dask()
    assert array.numblocks == (2, 1, 1, 1)
    np.testing.assert_array_equal(array.compute(), scans["S1"].swapaxes(0, 1)[[0, 2]])


def test_a_field_with_two_braces_is_reported_to_have_one(scans, tmp_path):
    source = open_entry(
        tmp_path,
        """
    args: {urlpath: "{{ CATALOG_DIR }}/raw/S1/*.tif", pattern: "{{name}}_t{t:d}.tif"}
""",
    )
    with pytest.raises(EntryError, match=r"add a parameter .* has one brace: \{name\}$"):
        source.to_dask()


@pytest.mark.parametrize("driver", ["tiffstack", "tiffstack_zarr"])
def test_an_entry_without_a_urlpath_says_so(driver, tmp_path):
    (tmp_path / "none.yml").write_text(f"sources: {{x: {{driver: {driver}}}}}")
    with pytest.raises(OptionError, match="urlpath is missing"):
        intake.open_catalog(str(tmp_path / "none.yml")).x.to_dask()


def test_a_relative_urlpath_of_an_entry_is_reported_of(scans, tmp_path, monkeypatch):
    body = '    args: {urlpath: raw/S1/*.tif, pattern: "c{c:d}_t{t:d}.tif"}'
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(action="error", category=TiffStackWarning):
        open_entry(tmp_path, body).to_dask()  # the catalog is here
        monkeypatch.chdir(tmp_path / "raw")
        open_entry(tmp_path, body)(urlpath="S2/*.tif").to_dask()  # given here
    with (
        pytest.warns(
            TiffStackWarning, match=r"'scan'.* write \{\{ CATALOG_DIR \}\}/raw/S1/"
        ) as seen,
        pytest.raises(
            FilesNotFoundError, match=r"in a catalog write \{\{ CATALOG_DIR \}\}/raw/S1/"
        ),
    ):
        open_entry(tmp_path, body).to_dask()
    assert [Path(warning.filename) for warning in seen] == [Path(__file__)]


def test_a_urlpath_for_a_shell_is_reported_as_such_and_not_as_relative(scans, tmp_path):
    source = open_entry(tmp_path, '    args: {urlpath: "$HOME/raw/*.tif"}')
    with (
        warnings.catch_warnings(action="error", category=TiffStackWarning),
        pytest.raises(FilesNotFoundError, match=r"catalog write \{\{ env\('HOME'\) \}\}$"),
    ):
        source.to_dask()


def test_a_relative_parameter_given_here_is_not_told_of(scans, tmp_path, monkeypatch):
    source = open_entry(
        tmp_path,
        """
    parameters: {folder: {description: f, type: str, default: elsewhere}}
    args: {urlpath: "{{ folder }}/*.tif", pattern: "c{c:d}_t{t:d}.tif"}
""",
    )
    monkeypatch.chdir(tmp_path / "raw")
    with warnings.catch_warnings(action="error", category=TiffStackWarning):
        np.testing.assert_array_equal(source(folder="S2").read(), scans["S2"].swapaxes(0, 1))


def test_an_unknown_option_suggests_the_near_one(tmp_path):
    with pytest.raises(OptionError, match="'patern'; did you mean 'pattern'"):
        intake.open_tiffstack(str(tmp_path), patern="x")


@pytest.mark.parametrize(
    ("option", "reported"),
    [("lvel", "did you mean 'level'"), ("pattern", "known: arraytype, chunks")],
)
def test_an_unknown_option_of_a_copy_is_reported_as_well(option, reported):
    with pytest.raises(OptionError, match=f"unknown option '{option}'; {reported}"):
        intake.open_tiffstack_zarr("c.zarr", **{option: 1})


def test_a_source_of_a_copy_knows_which_attributes_it_lacks():
    public = {name for name in dir(TiffStackSource) if not name.startswith("_")}
    assert public - set(dir(TiffStackZarrSource)) == zarr_source._OF_TIFF_FILES


@pytest.mark.parametrize("name", ["export", "persist", "files"])
def test_what_is_of_the_files_says_so_on_a_copy(name):
    copy = intake.open_tiffstack_zarr("c.zarr")
    assert not hasattr(copy, name)
    with pytest.raises(AttributeError, match=f"'{name}' is an attribute of a source of TIFF files"):
        getattr(copy, name)
    with pytest.raises(AttributeError, match="no attribute 'reprot'"):
        _ = copy.reprot


@pytest.mark.parametrize("of", [TiffStack, TiffStackSource], ids=lambda of: of.__name__)
def test_help_on_export_names_every_option_of_every_format(of):
    text = of.export.__doc__
    for format in FORMATS:
        own = set(inspect.signature(find_writer(format)).parameters)
        own -= {"source", "url", "dims", "coords", "granule", "present", "pyramid"}
        own -= {"origin", "labels_of"}
        assert {name for name in own - {"attrs"} if f"``{name}``" not in text} == set()


def test_help_on_open_tiffstack_describes_the_options():
    for name in inspect.signature(TiffStackSource).parameters:
        assert f"\n{name} : " in (intake.open_tiffstack.__doc__ or "")


# -- identity -------------------------------------------------------------------------------------


def test_equality_hash_and_token_use_what_was_given(catalog):
    one, two = catalog.scan(sensor="S1"), catalog.scan(sensor="S1")
    one.discover()
    assert one == two
    assert hash(one) == hash(two)
    assert one.__dask_tokenize__() == two.__dask_tokenize__()
    assert one != catalog.scan(sensor="S2")


def test_a_positional_and_a_named_urlpath_are_equal(tmp_path):
    assert TiffStackSource(str(tmp_path)) == TiffStackSource(urlpath=str(tmp_path))


def test_a_pickled_source_is_the_same_and_can_still_be_overridden(catalog, scans):
    source = catalog.scan(sensor="S2")(chunks="file")
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert hash(copy) == hash(source)
    assert (copy.name, copy.cat.name, copy.persist_mode) == ("scan", catalog.name, "default")
    assert copy.to_dask().name == source.to_dask().name
    np.testing.assert_array_equal(copy(sel={"c": 0}).read(), scans["S2"][:1])
    np.testing.assert_array_equal(copy(sensor="S1").read(), scans["S1"])


def test_a_pickled_source_needs_no_catalog_where_it_is_read(catalog, scans, tmp_path):
    source = catalog.scan(sensor="S2")
    sent = pickle.dumps(source)
    (tmp_path / "catalog.yml").rename(tmp_path / "elsewhere.yml")
    received = pickle.loads(sent)
    np.testing.assert_array_equal(received(sensor="S1")(chunks="file").read(), scans["S1"])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(received)).read(), scans["S2"])
    with pytest.raises(FileNotFoundError):
        _ = received.cat
    (tmp_path / "elsewhere.yml").rename(tmp_path / "catalog.yml")
    assert received.cat.name == catalog.name


@pytest.mark.parametrize(
    ("of_catalog", "of_source", "expected"),
    [
        ("default", "default", "default"),
        ("never", "default", "never"),
        ("never", "always", "always"),
    ],
)
def test_persist_mode_is_the_nearest_that_is_given(
    scans, tmp_path, of_catalog, of_source, expected
):
    catalog = intake.open_catalog(str(tmp_path / "catalog.yml"), persist_mode=of_catalog)
    source = catalog.scan(persist_mode=of_source)
    assert source.persist_mode == expected
    received = pickle.loads(pickle.dumps(source))
    assert received.persist_mode == expected
    assert received(persist_mode="default").persist_mode == of_catalog


# -- YAML and secrets -----------------------------------------------------------------------------


def test_yaml_opens_again_wherever_it_is_kept(catalog, scans, tmp_path_factory):
    source = catalog.scan(sensor="S2", sel={"c": 1})
    before = source.yaml()
    source.discover()
    assert source.yaml() == before, "discovered values have no place in it"
    path = tmp_path_factory.mktemp("elsewhere") / "again.yml"
    path.write_text(before)
    again = intake.open_catalog(str(path)).scan
    np.testing.assert_array_equal(again.read(), scans["S2"][1:])
    np.testing.assert_array_equal(again(sensor="S1").read(), scans["S1"][1:])


@pytest.mark.parametrize(
    "times",
    [
        [date(2024, 1, 30), date(2024, 1, 31), datetime(2024, 2, 1, 5)],
        np.array(["2024-01-30", "2024-01-31", "2024-02-01T05:00"], "datetime64[ns]"),
    ],
    ids=["dates", "array"],
)
def test_dates_as_coordinates_are_times_and_stay_so_in_yaml(scans, tmp_path, times):
    source = TiffStackSource(
        f"{tmp_path}/raw/S1/*.tif", pattern="c{c:d}_t{t:d}.tif", coords={"t": times}
    )
    (tmp_path / "again.yml").write_text(source.yaml())
    again = intake.open_catalog(str(tmp_path / "again.yml"))["tiffstack"]
    for one in (source, again):
        named = one.to_xarray()
        assert named["t"].dtype.kind == "M"
        np.testing.assert_array_equal(named.sel(t="2024-01-31").squeeze("t"), scans["S1"][:, 1])


def test_yaml_of_a_relative_urlpath_opens_from_every_folder(scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = intake.open_tiffstack(["raw/S1/*.tif", "raw/S2/*.tif"]).yaml()
    urls = yaml.safe_load(text)["sources"]["tiffstack"]["args"]["urlpath"]
    assert urls == [f"{tmp_path}/raw/S1/*.tif", f"{tmp_path}/raw/S2/*.tif"]
    text = intake.open_tiffstack(Path("raw/S1")).yaml()
    assert yaml.safe_load(text)["sources"]["tiffstack"]["args"]["urlpath"] == f"{tmp_path}/raw/S1"


def test_yaml_keeps_the_folder_within_a_longer_expression(scans, tmp_path, tmp_path_factory):
    source = open_entry(
        tmp_path,
        """
    parameters: {folder: {description: s, type: str, default: ""}}
    args:
      urlpath: "{{ folder or CATALOG_DIR ~ '/raw/S1' }}/*.tif"
      concat_dim: file
""",
    )
    path = tmp_path_factory.mktemp("elsewhere") / "again.yml"
    path.write_text(source.yaml())
    np.testing.assert_array_equal(intake.open_catalog(str(path)).scan.read(), source.read())


def test_relist_of_a_source_that_was_not_opened_yet(catalog, scans, tmp_path):
    assert catalog.scan.to_dask().shape[1] == 3
    for c in range(2):
        tifffile.imwrite(tmp_path / f"raw/S1/c{c}_t3.tif", scans["S1"][0, 0])
    fresh = intake.open_catalog(str(tmp_path / "catalog.yml")).scan
    fresh.relist()
    assert fresh.to_dask().shape[1] == 4


SECRETS = {
    "key": "AKIAverysecret",
    "secret": "shhh-verysecret",
    "client_kwargs": {"password": "verysecret", "region_name": "eu"},
    "headers": {"Authorization": "Bearer verysecret"},
    "anon": False,
}


def test_no_secret_is_shown(tmp_path):
    source = intake.open_tiffstack("s3://bucket/*.tif", storage_options=SECRETS)
    shown = "".join(
        [source.yaml(), repr(source), source._repr_html_(), str(source.describe()), str(source)]
    )
    assert "verysecret" not in shown
    assert "{{ env(AWS_SECRET_ACCESS_KEY) }}" in source.yaml()
    assert "region_name: eu" in source.yaml()


def test_no_secret_of_an_entry_is_shown(tmp_path):
    source = open_entry(
        tmp_path,
        """
    args:
      urlpath: https://me:verysecret@host/a.tif
      storage_options: {token: "{{ env(MY_TOKEN) }}", secret: verysecret}
""",
    )
    shown = source.yaml() + repr(source) + source._repr_html_() + str(source.describe())
    assert "verysecret" not in shown
    assert "{{ env(MY_TOKEN) }}" in source.yaml()


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"X-Api-Key": "verysecret"}},
        {"auth": ["me", "verysecret"]},
        {"client_kwargs": {"auth": {"user": "me", "word": "verysecret"}}},
        {"s3_additional_kwargs": {"SSECustomerKey": "verysecret"}},
        {"accountKey": "verysecret"},
        {"pass": "verysecret", "pkey": "verysecret"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_no_secret_is_shown_whatever_its_key_is_called(options):
    source = intake.open_tiffstack("s3://bucket/*.tif", storage_options=options)
    assert "verysecret" not in source.yaml() + source._repr_html_() + str(source.describe())


@pytest.mark.parametrize(
    "url",
    [
        "https://verysecret@127.0.0.1:9/a.tif",
        "https://me:a@verysecret@127.0.0.1:9/a.tif",
        "http://127.0.0.1:9/a.tif?sig=very:verysecret",
        "http://127.0.0.1:9/a.tif?x=1&access_token=verysecret",
        "http://127.0.0.1:9/a.tif?api_key=verysecret",
    ],
)
def test_no_secret_of_a_url_is_shown_in_text_or_errors(url):
    source = intake.open_tiffstack(url)
    assert "verysecret" not in source.yaml() + source._repr_html_() + repr(source)
    assert "verysecret" not in str(TiffStackError(f"cannot read {url}: no answer"))


def test_an_option_may_be_an_array(tmp_path):
    one, two = (TiffStackSource(str(tmp_path), coords={"t": np.arange(3.0)}) for _ in range(2))
    assert one == two
    assert "- 2.0" in one.yaml()


def test_an_unknown_option_of_export_suggests_the_near_one(catalog, tmp_path):
    with pytest.raises(OptionError, match="'compresor'; did you mean 'compressor'"):
        catalog.scan.export(str(tmp_path / "x.zarr"), compresor=None)


def test_what_describe_gives_is_a_copy(tmp_path):
    source = TiffStackSource(str(tmp_path), metadata={"a": {"b": 1}})
    source.describe()["metadata"]["a"]["b"] = 2
    assert source == TiffStackSource(str(tmp_path), metadata={"a": {"b": 1}})


def test_a_secret_of_an_override_is_not_shown(catalog):
    assert "verysecret" not in catalog.scan(storage_options=SECRETS).yaml()


def test_the_ipython_hook_is_off_so_that_html_is_seen(catalog):
    assert catalog.scan._ipython_display_ is None
    assert "<table>" in catalog.scan._repr_html_()


def test_what_is_shown_names_the_dims_and_a_tidy_path(scans, tmp_path):
    source = intake.open_tiffstack(f"{tmp_path}/raw/S2/../S1//*.tif", pattern="c{c:d}_t{t:d}.tif")
    source.to_dask()
    assert "(t: 3, c: 2, y: 4, x: 5) uint16" in repr(source)
    for text in (repr(source), source._repr_html_()):
        assert f"{tmp_path}/raw/S1/*.tif" in text


def test_a_source_says_whether_pixels_come_from_the_copy(catalog, tmp_path, monkeypatch):
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    source = catalog.scan
    assert "from the" not in repr(source), "what is not decided is not claimed"
    assert source.report().pixels == "from the files"
    source.to_dask()
    assert "(c: 2, t: 3, y: 4, x: 5) uint16, from the files" in repr(source)
    persisted = source.persist()
    today = f"from the copy of {datetime.now(UTC):%Y-%m-%d}"
    assert today in repr(persisted)
    assert "from the files" in repr(source), "it has not looked since"
    source.to_dask()
    fresh = catalog.scan(sensor="S1")
    assert fresh.report().to_dict()["pixels"] == today
    for one in (source, persisted, fresh):
        one.to_dask()
        assert f"(c: 2, t: 3, y: 4, x: 5) uint16, {today}" in repr(one)
        assert today in one._repr_html_()
        report = str(one.report())
        assert f"pixels        {today}" in report
        assert "2 c x 3 t x 4 y x 5 x" in report
    never = catalog.scan(persist_mode="never")
    never.to_dask()
    assert "from the files" in repr(never)


def test_the_report_of_a_copy_needs_no_files(catalog, tmp_path, monkeypatch):
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    persisted = catalog.scan.persist()
    shutil.rmtree(tmp_path / "raw")
    assert "2 c x 3 t x 4 y x 5 x" in str(persisted.report())


def test_persist_mode_always_without_a_copy_says_so_before_it_is_used(
    catalog, tmp_path, monkeypatch
):
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    source = catalog.scan(persist_mode="always")
    texts = [repr(source), source._repr_html_(), str(source.report())]
    catalog.scan(missing="fill").persist()
    catalog.scan(missing="fill", sel={"c": 0}).persist()
    near = catalog.scan(persist_mode="always")
    texts_near = [repr(near), str(near.report())]
    with pytest.raises(FilesNotFoundError) as refused:
        near.to_dask()
    for text in (*texts, *texts_near):
        assert "there is no persisted copy" in text
    for text in (*texts_near, str(refused.value)):
        assert "differs in missing (there 'fill', here 'not given')" in text
    other = catalog.scan(persist_mode="always", sensor="S2")
    assert "differs" not in repr(other)


def test_a_notebook_shows_dims_sizes_dtype_and_chunks(catalog):
    source = catalog.scan
    assert "not opened yet" in source._repr_html_()
    source.to_dask()
    for shown in (source._repr_html_(), source.stack._repr_html_()):
        for text in ("<b>t</b>: 3", "uint16", "(2, 3, 4, 5)", "<svg", "Chunk"):
            assert text in shown


def test_a_long_list_of_urls_is_shown_by_its_ends(tmp_path):
    source = intake.open_tiffstack([f"{tmp_path}/{i:05d}.tif" for i in range(3000)])
    shown = source._repr_html_()
    assert len(shown) < 3000
    assert "00000.tif" in shown
    assert "02999.tif" in shown


def test_metadata_show_long_coordinates_by_their_ends(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((500, 3), "uint8"))
    source = intake.open_tiffstack(f"{tmp_path}/a.tif", scale={"y": 0.5})
    assert source.metadata["coords"]["y"] == {
        "dims": ["y"], "size": 500, "first": 0.0, "last": 249.5,
    }  # fmt: skip


def test_a_relative_urlpath_is_another_one_in_another_folder(scans, tmp_path, monkeypatch):
    for name in ("S1", "S2"):
        monkeypatch.chdir(tmp_path / "raw" / name)
        pixels = intake.open_tiffstack("*.tif", pattern="c{c:d}_t{t:d}.tif").read()
        np.testing.assert_array_equal(pixels, scans[name].swapaxes(0, 1))


def test_describe_works_with_and_without_an_entry(catalog, tmp_path):
    assert catalog.scan.describe()["args"]["pattern"] == "c{c:d}_t{t:d}.tif"
    reported = TiffStackSource(str(tmp_path)).describe()
    assert reported["driver"] == ["tiffstack"]
    assert reported["args"] == {"urlpath": str(tmp_path)}


# -- partitions -----------------------------------------------------------------------------------


def test_partitions_by_number_and_by_place(catalog, scans):
    source = catalog.scan(chunks="file")
    assert source.discover()["npartitions"] == 6
    np.testing.assert_array_equal(source.read_partition(4)[0, 0], scans["S1"][1, 1])
    np.testing.assert_array_equal(source.read_partition((1, 1, 0, 0))[0, 0], scans["S1"][1, 1])
    chunks = [chunk[0, 0] for chunk in source.read_chunked()]
    np.testing.assert_array_equal(np.reshape(chunks, (2, 3, 4, 5)), scans["S1"])


@pytest.mark.parametrize("wrong", [6, -1, (2, 0, 0, 0), (0, 0, 0)])
def test_a_partition_that_is_not_there_is_an_index_error(catalog, wrong):
    with pytest.raises(IndexError, match="partition"):
        catalog.scan(chunks="file").read_partition(wrong)


def test_a_source_is_a_context(catalog, scans):
    with catalog.scan as source:
        assert source.shape == (2, 3, 4, 5)
        np.testing.assert_array_equal(source.read(), scans["S1"])


def test_a_source_keeps_its_listing_and_a_new_one_looks_again(catalog, scans, tmp_path):
    source = catalog.scan
    assert source.to_dask().shape[1] == 3
    for c in range(2):
        tifffile.imwrite(tmp_path / f"raw/S1/c{c}_t3.tif", scans["S1"][0, 0])
    for fresh in (
        intake.open_catalog(str(tmp_path / "catalog.yml")).scan,
        catalog.scan(sensor="S1"),
        source(),
        pickle.loads(pickle.dumps(source)),
    ):
        assert fresh.to_dask().shape[1] == 4
    assert source.to_dask().shape[1] == 3, "what a source showed should stay so"
    source.relist()
    assert source.to_dask().shape[1] == 4
    assert source.metadata["shape"] == [2, 4, 4, 5]


def test_a_new_source_reads_a_file_that_changed(catalog, scans, tmp_path):
    before = catalog.scan.to_dask()
    tifffile.imwrite(tmp_path / "raw/S1/c1_t2.tif", scans["S2"][0, 0], software="another size")
    scans["S1"][1, 2] = scans["S2"][0, 0]
    with pytest.raises(FileChangedError, match=r"c1_t2\.tif"):
        before.compute()
    fresh = intake.open_catalog(str(tmp_path / "catalog.yml")).scan
    np.testing.assert_array_equal(fresh.read(), scans["S1"])


def test_a_new_source_reads_the_headers_of_new_and_changed_files_alone(
    catalog, scans, tmp_path, monkeypatch
):
    catalog.scan.to_dask()
    opened = []

    def note(file, *args):
        opened.append(Path(file.url).name)
        return open_header(file, *args)

    monkeypatch.setattr("intake_tiffstack.header.cache.open_header", note)
    catalog.scan(sensor="S1").to_dask()
    assert opened == []
    tifffile.imwrite(tmp_path / "raw/S1/c1_t2.tif", scans["S2"][0, 0], software="another size")
    for c in range(2):
        tifffile.imwrite(tmp_path / f"raw/S1/c{c}_t3.tif", scans["S1"][0, 0])
    catalog.scan(sensor="S1").to_dask()
    assert set(opened) == {"c1_t2.tif", "c0_t3.tif", "c1_t3.tif"}


# -- xarray, copies, what is not there yet --------------------------------------------------------


def test_to_xarray_is_named_after_the_entry(catalog, scans):
    named = catalog.scan.to_xarray()
    assert isinstance(named, xr.DataArray)
    assert named.name == "scan"
    np.testing.assert_array_equal(named.sel(c=1, t=2).values, scans["S1"][1, 2])


def test_export_gives_a_source_over_an_equal_copy(catalog, scans, tmp_path):
    copy = catalog.scan.export(str(tmp_path / "scan.zarr"))
    np.testing.assert_array_equal(copy.read(), scans["S1"])
    np.testing.assert_array_equal(da.from_zarr(str(tmp_path / "scan.zarr")), scans["S1"])
    xr.testing.assert_equal(copy.to_xarray(), catalog.scan.to_xarray())
    again = intake.open_tiffstack_zarr(str(tmp_path / "scan.zarr"))
    assert again.discover()["shape"] == (2, 3, 4, 5)
    assert again.metadata["source"].endswith("raw/S1/*.tif")
    assert pickle.loads(pickle.dumps(again)) == again
    with pytest.raises(TargetExistsError, match=r"scan\.zarr"):
        catalog.scan.export(str(tmp_path / "scan.zarr"))


@pytest.mark.parametrize("format", ["zarr", "ome-zarr", "references"])
def test_the_entrys_own_metadata_go_with_the_pixels(scans, tmp_path, format):
    source = open_entry(
        tmp_path,
        """
    metadata: {instrument: X, day: 2024-01-02, scale: 20x, dims: [mine]}
    args: {urlpath: "{{ CATALOG_DIR }}/raw/S1/*.tif", pattern: "c{c:d}_t{t:d}.tif", scale: {x: 2}}
""",
    )
    url = str(tmp_path / ("c.json" if format == "references" else "c.zarr"))
    copy = source.export(url, format=format)
    for attrs in (source.to_xarray().attrs, copy.to_xarray().attrs):
        assert (attrs["instrument"], attrs["day"]) == ("X", "2024-01-02")
        assert not {"catalog_dir", "dims"} & attrs.keys()
        assert decode_attrs(attrs)["scale"]["x"] == 2, "a copy is measured by the options alone"
    assert copy(metadata={"instrument": "Y"}).to_xarray().attrs["instrument"] == "Y"


def test_a_persisted_copy_gets_the_metadata_of_the_entry_that_opens_it(
    catalog, tmp_path, monkeypatch
):
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    persisted = catalog.scan.persist(progress=False)
    assert persisted.to_xarray().attrs["owner"] == "lab"
    again = TiffStackSource(**{**persisted._given(), "metadata": {"owner": "another"}})
    assert again.is_persisted
    assert again.to_xarray().attrs["owner"] == "another"


def test_metadata_that_cannot_be_stored_are_named(scans, tmp_path):
    source = TiffStackSource(
        f"{tmp_path}/raw/S1/*.tif", concat_dim="file", metadata={"gain": float("nan")}
    )
    with pytest.raises(OptionError, match=r"attrs\['gain'\] cannot be stored as JSON"):
        source.export(str(tmp_path / "c.zarr"))


def test_a_copy_opens_after_a_change_of_folder(catalog, scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = catalog.scan.export("scan.zarr")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(copy.read(), scans["S1"])


def test_what_is_not_there_says_so(catalog, tmp_path):
    with pytest.raises(
        OptionError, match="unknown format 'hdf5'; known: icechunk, ome-tiff, ome-zarr"
    ):
        catalog.scan.export(str(tmp_path / "x"), format="hdf5")


def test_a_missing_folder_is_our_error_and_the_built_in(tmp_path):
    source = intake.open_tiffstack(str(tmp_path / "nowhere" / "*.tif"))
    with pytest.raises(FileNotFoundError, match="nowhere") as caught:
        source.to_dask()
    assert isinstance(caught.value, TiffStackError)
