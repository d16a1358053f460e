"""The options of a collection: one list of names, types, defaults and meanings.

The driver and :func:`intake_tiffstack.open_stack` take theirs from here, and ``docs/options.md`` is
generated from it. An option describes the data; what describes the machine is a setting
(``tiffstack`` in dask's configuration).
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Number
from typing import Annotated, Any, Literal, Protocol, TypedDict, get_args, get_type_hints

import yaml
from dask.utils import parse_bytes
from pydantic import (
    AfterValidator,
    BeforeValidator,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from intake_tiffstack.errors import OptionError
from intake_tiffstack.redact import hide_secrets, mask_secrets

Missing = Literal["raise", "fill", "mask", "trim"]
Duplicates = Literal["raise", "first", "last"]
Place = Literal["index", "georeference", "stage"]
Sets = Literal["none", "ome", "ndtiff", "mmstack"]
LayoutBy = Literal["auto", "names", "sidecar"]
Unequal = Literal["raise", "pad"]
Overlap = Literal["raise", "last", "first", "max", "mean"]
Unmatched = Literal["raise", "warn", "ignore"]
Validate = Literal["auto", "all", "template"]
OnError = Literal["raise", "fill"]
PersistMode = Literal["default", "always", "never"]
Sidecar = Literal["pam", "worldfile"]
OnStale = Literal["original", "refresh", "extend", "use", "error"]


class Table(Protocol):
    """A pandas DataFrame with a column of URLs; its other columns are fields."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""

    @property
    def iloc(self) -> Any:
        """Rows by position."""


UrlPath = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Table
Extent = int | Sequence[int] | Literal["auto"] | None
ChunkShape = Literal["auto", "file", "page"] | str | int | Sequence[Extent] | Mapping[str, Extent]


class OptionKeywords(TypedDict, total=False):
    """Every option but ``urlpath``, with the type to write in Python; for ``Unpack``."""

    storage_options: Mapping[str, Any] | None
    pattern: str | None
    concat_dim: str | Sequence[str] | None
    labels: Mapping[str, Sequence[str] | Mapping[str, Any]] | None
    sel: Mapping[str, Any] | None
    exclude: str | Sequence[str] | None
    files: Mapping[str, Sequence[Any]] | None
    sizes: Mapping[str, int] | None
    file_dims: str | Sequence[str] | Mapping[str, int] | None
    dims: str | Sequence[str] | None
    chunks: ChunkShape | None
    coords: Mapping[str, Any] | None
    channel_names: str | Sequence[str] | Mapping[Any, str] | None
    scale: Mapping[str, float] | None
    translation: Mapping[str, float] | None
    units: Mapping[str, str] | None
    series: int | Literal["all"]
    level: int
    missing: Missing
    fill_value: complex | None
    mask_and_scale: bool
    duplicates: Duplicates
    unequal: Unequal
    sets: Sets
    layout: LayoutBy
    sidecars: bool | Sidecar | Sequence[Sidecar] | None
    place: Place
    overlap: Overlap
    unmatched: Unmatched
    validate: Validate
    on_error: OnError
    header_index: str | os.PathLike[str] | None
    arraytype: str
    persist_mode: PersistMode
    on_stale: OnStale


# -- from what was given to one form: pydantic parses, these read the text that templates give ---


def _from_text(value: Any) -> Any:
    """Return the number, list or dict that a text spells, else *value* itself. Pure.

    >>> _from_text("{'c': 0}"), _from_text("{c: 0}"), _from_text("3"), _from_text("zyx")
    ({'c': 0}, {'c': 0}, 3, 'zyx')
    """
    stripped = value.strip() if isinstance(value, str) else ""
    if not stripped or stripped[0] not in "[{(-+.0123456789":
        return value
    try:
        return ast.literal_eval(stripped)
    except (ValueError, SyntaxError):
        if stripped[0] not in "[{":  # YAML would read 010 as 8
            return value
    try:
        parsed = yaml.safe_load(stripped)
    except yaml.YAMLError:
        return value
    return parsed if isinstance(parsed, (list, dict)) else value


def _mapping(value: Any) -> Any:
    return _from_text(value) if not isinstance(value, str) or value.strip() else {}


def _nested(value: Any) -> Any:
    """Return the list or mapping that a text spells; a number stays text, such as well "010"."""
    is_nested = isinstance(value, str) and value.strip()[:1] in ("[", "{")
    return _from_text(value) if is_nested else value


def _listed(value: Any, kinds: tuple[type, ...] = (list, tuple)) -> Any:
    if not isinstance(value, str):
        return value
    parsed = _from_text(value)  # a glob may begin with "["
    return parsed if isinstance(parsed, kinds) else [value] if value else []


def urls_of_text(value: Any) -> Any:
    """Return the list of URLs that a text spells; a glob may begin with a bracket too. Pure.

    >>> urls_of_text("['a.tif', 'b.tif',]"), urls_of_text("[/a.tif, /b.tif]")
    (['a.tif', 'b.tif'], ['/a.tif', '/b.tif'])
    >>> urls_of_text("[ab]*.tif"), urls_of_text("[ab]"), urls_of_text("[ ]")
    ('[ab]*.tif', '[ab]', [])
    """
    text = value.strip() if isinstance(value, str) else ""
    # between the brackets of a glob there is neither a slash nor a pair of quotes
    is_list = text[:1] == "[" and text[-1:] == "]" and re.search(r"/|(['\"]).*\1|^.\s*.$", text)
    parsed = _from_text(text) if is_list else None
    return parsed if isinstance(parsed, list) else value


def _sidecars(value: Any) -> Any:
    """Return all kinds for true and none for false, as Python, YAML and templates write them."""
    is_said = {"true": True, "false": False}.get(str(value).lower())
    return value if is_said is None else [*get_args(Sidecar)] * is_said


def _letters(value: Any) -> Any:
    value = _from_text(value)
    return list(value) if isinstance(value, str) else value


def _unique(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise ValueError("a dim is repeated; a string is read as one-letter dimension names")
    return names


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("this is a boolean")
    return value


def _number(value: Any) -> Any:
    value = _from_text(value)
    value = float(value) if isinstance(value, str) else value  # "nan" and "inf" are numbers too
    if not isinstance(value, Number):
        raise ValueError("this is not a number")
    return value


def _size(text: str) -> str:
    if text not in ("auto", "file", "page") and parse_bytes(text or "0") < 1:
        raise ValueError("a chunk holds at least one byte")
    return text


def _collapse(path: str) -> str:
    """Return a local path with single slashes: ``{{ CATALOG_DIR }}/raw`` gives two. Pure."""
    return path if "://" in path else re.sub(r"(?<!^)/{2,}", "/", path)


_Path = Annotated[
    str,
    BeforeValidator(lambda v: os.fspath(v) if isinstance(v, os.PathLike) else v),
    AfterValidator(_collapse),
]
_Names = Annotated[list[str], BeforeValidator(_listed)]
_Text = Annotated[str, BeforeValidator(str)]
_ChannelNames = Annotated[
    list[_Text] | dict[Any, _Text], BeforeValidator(lambda v: _listed(v, (list, tuple, dict)))
]
_Sidecars = Annotated[
    list[Sidecar],
    BeforeValidator(_listed),
    BeforeValidator(_sidecars),
]
_Dims = Annotated[list[str], BeforeValidator(_letters), AfterValidator(_unique)]
_Whole = Annotated[int, BeforeValidator(_not_bool)]
_FileDims = Annotated[_Dims | dict[str, _Whole], BeforeValidator(_from_text)]
_Index = Annotated[NonNegativeInt, BeforeValidator(_not_bool)]
_Mapping = Annotated[dict[str, Any], BeforeValidator(_mapping)]
_Nested = Annotated[dict[str, Annotated[Any, BeforeValidator(_nested)]], BeforeValidator(_mapping)]
_Sizes = Annotated[
    dict[str, Annotated[PositiveInt, BeforeValidator(_not_bool)]], BeforeValidator(_mapping)
]
_Floats = Annotated[dict[str, float], BeforeValidator(_mapping)]
_Texts = Annotated[dict[str, str], BeforeValidator(_mapping)]
_Length = Annotated[PositiveInt, BeforeValidator(_not_bool)]
_Extent = _Length | Literal["auto", -1] | tuple[_Length, ...] | None
_Chunks = Annotated[
    Annotated[str, AfterValidator(_size)] | _Extent | tuple[_Extent, ...] | dict[str, _Extent],
    BeforeValidator(_from_text),
]


def _option(values: str, doc: str, *, default: Any = MISSING, accepted: str = "") -> Any:
    metadata = {"values": values, "doc": doc, "accepted": accepted or values}
    if default in ({}, []):
        return field(default_factory=type(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def _choice(literal: Any, default: str, doc: str) -> Any:
    names = get_args(literal)
    values = " ".join(f"`{name}`" for name in names)
    return _option(values, doc, default=default, accepted=f"one of {', '.join(map(repr, names))}")


@dataclass(frozen=True, repr=False)
class Options:
    """Every option of a collection, checked and in one form.

    Make one with :meth:`parse`, which checks names and values, reads text (templates of a catalog
    give text) and converts each option to its type below.
    """

    urlpath: Annotated[_Path | list[_Path], BeforeValidator(urls_of_text)] = _option(
        "str, list",
        "a file, folder, glob or list of these; local or any fsspec URL; a `.txt`, `.csv` or "
        "`.parquet` file is a list of URLs, and so is the index of a plate (Harmony's `Index.xml`, "
        "CellVoyager's `.mlf`, MetaXpress' `.HTD`, IN Cell's `.xdce`, ScanR's "
        "`experiment_descriptor.xml`)",
    )
    storage_options: _Mapping = _option("dict", "passed to fsspec", default={})
    pattern: str | None = _option(
        "format string, regex with named groups, preset name, `infer`, None",
        "parses each path into fields; `infer` takes and prints the best of `suggest()`; None: "
        "files along the one dim that `concat_dim` names, else along `file`; a list in its own "
        "order, a folder or glob in natural order",
        default=None,
    )
    concat_dim: _Names | None = _option(
        "str, list",
        "fields that become dims, outermost first; None: every field with a role, in the order "
        "plate, acquisition, position, t, c, z, y, x, else every field in the order of the pattern",
        default=None,
    )
    labels: _Nested = _option(
        "{field: [texts in order]} or {field: {text: label}}",
        "order of a text field's values, and their labels; a value that is not listed is an error",
        default={},
    )
    sel: _Nested = _option(
        "{field: value, list, or {from: a, to: b}}",
        "selects files by the values in their names, both ends included, before the grid is built",
        default={},
    )
    exclude: _Names = _option(
        "glob, list", "paths excluded from the listing (`*_thumb*`)", default=[]
    )
    files: Annotated[dict[str, list[Any]], BeforeValidator(_mapping)] = _option(
        "{field: [value per file]}",
        "fields of the files that a list in `urlpath` names, in its order, instead of a pattern; a "
        "DataFrame as `urlpath` gives both",
        default={},
    )
    sizes: _Sizes = _option(
        "{dim: n}",
        "expected size of the grid, so that a lost last time point is a hole and not a shorter "
        "array",
        default={},
    )
    file_dims: _FileDims | None = _option(
        "`zyx`, list, or {dim: n} with one -1",
        "dims inside a file, instead of the file's own labels; sizes split interleaved pages into "
        "dims, slowest first, y and x implied: `{t: -1, z: 10, c: 3}`",
        default=None,
    )
    dims: _Dims | None = _option(
        "list, or str of one-letter dims",
        "order of the result; None: `concat_dim` + `file_dims`",
        default=None,
    )
    chunks: _Chunks = _option(
        "`auto`, `file`, `page`, size such as `64 MiB`, int, tuple, {dim: n}",
        "shape of a chunk, from part of a page to many files; dims left out of a dict are chosen "
        "as by `auto`",
        default="auto",
    )
    coords: _Nested = _option(
        "{dim: values} or {dim: field}",
        "coordinates of a dim, or the field that gives them",
        default={},
    )
    channel_names: _ChannelNames | None = _option(
        "list, or {value: name}",
        "names of the channels; None: from metadata; a list of the wrong length is an error",
        default=None,
    )
    scale: _Floats = _option("{dim: number}", "spacing along a dim; overrides metadata", default={})
    translation: _Floats = _option(
        "{dim: number}",
        "position of the first pixel; overrides metadata",
        default={},
    )
    units: _Texts = _option(
        "{dim: text}",
        "unit of scale and translation; overrides metadata",
        default={},
    )
    series: _Index | Literal["all"] = _option(
        "int from 0, `all`",
        "index of the series (image) inside a file; `all` puts those that are like the first along "
        "the dim `position`; a warning names those that are left out",
        default=0,
    )
    level: _Index = _option("int from 0", "index of the pyramid level inside a file", default=0)
    missing: Missing = _choice(
        Missing,
        "raise",
        "what to do with a cell that has no file; `mask` fills and adds the boolean coord "
        "`is_missing`; `trim` drops "
        "trailing positions of the outermost time-like dim until it is complete",
    )
    fill_value: Annotated[Any, BeforeValidator(_number)] = _option(
        "scalar, None",
        "value of pixels that are in no file: holes, and blocks that a file without nodata leaves "
        "out; None: the nodata of the first file, else 0",
        default=None,
    )
    mask_and_scale: Annotated[bool, BeforeValidator(_from_text)] = _option(
        "bool",
        "whether `to_xarray()` gives NaN for nodata and applies scale and offset, as "
        "`xarray.open_dataset` does; `to_dask()`, `read()` and copies keep the stored numbers",
        default=False,
    )
    duplicates: Duplicates = _choice(
        Duplicates,
        "raise",
        "what to do with two files in one cell; first and last in natural order of path",
    )
    unequal: Unequal = _choice(
        Unequal,
        "raise",
        "what to do with files of unequal shapes; `pad` takes the largest extent along each dim, "
        "fills the rest of smaller files and adds the extents as coordinates; all headers are read",
    )
    sets: Sets = _choice(
        Sets,
        "none",
        "a file of a set opens the whole set: `ome`, or its companion, by the names and UUIDs in "
        "its OME-XML; `ndtiff`, or its folder, by the `NDTiff.index` of Micro-Manager; `mmstack`, "
        "by the index maps in Micro-Manager's stacks; `none`: each file is opened as it is",
    )
    layout: LayoutBy = _choice(
        LayoutBy,
        "auto",
        "where wells, fields, times, channels and planes are read: `sidecar`, in the index of a "
        "plate, which lies in the folder that `urlpath` names or is `urlpath`; `names`, never "
        "there; `auto`, in the index if there is one and no option (`pattern`, `concat_dim`, "
        "`files`, `sets`) says otherwise; where names disagree with the index a warning says so",
    )
    sidecars: _Sidecars = _option(
        "`pam`, `worldfile`, list of these, bool",
        "files beside each TIFF that place it on a map and describe its bands: `pam` is GDAL's "
        "`a.tif.aux.xml`, which goes before the file's own tags; `worldfile` is `a.tfw`, `a.tifw` "
        "or `a.wld`, used where the tags place nothing; `true` for both",
        default=[],
    )
    place: Place = _choice(
        Place,
        "index",
        "where files that make one image together lie in it: `index`, side by side by the fields "
        "`y` and `x`; `georeference`, each where its GeoTIFF tags put it on the map; "
        "`stage`, each where the stage was, rounded to pixels, by the metadata of the files or the "
        "fields `stage_y_um` and `stage_x_um`",
    )
    overlap: Overlap = _choice(
        Overlap,
        "raise",
        "what a pixel is that several tiles placed by `place` have: that of the last or the first "
        "in natural order of path, the largest, or the mean; nodata never counts",
    )
    unmatched: Unmatched = _choice(
        Unmatched,
        "warn",
        "what to do with listed TIFFs that the pattern does not match; `warn` gives one warning "
        "with their number and two names",
    )
    validate: Validate = _choice(
        Validate,
        "auto",
        "which headers are read at open: `auto` all of up to 1,000 local files, else a few; `all` "
        "every one; `template` only one; each file is checked again when it is read",
    )
    on_error: OnError = _choice(
        OnError,
        "raise",
        "what to do with a file that cannot be read while computing; `fill` fills its part of the "
        "chunk and logs one warning per file in `intake_tiffstack.reading`; such a source can be "
        "neither persisted nor exported",
    )
    header_index: _Path | None = _option(
        "path, URL",
        "Parquet file that keeps the headers of remote files; the first opening writes it, later "
        "ones and workers read it instead of the headers of files that have not changed",
        default=None,
    )
    arraytype: str = _option(
        '`numpy`, `cupy`, "pkg.mod:Class"',
        "array type of a chunk; a dotted name needs the setting `allow_code`",
        default="numpy",
    )
    persist_mode: PersistMode = _choice(
        PersistMode,
        "default",
        "whether a persisted copy is used: `always`, unchecked; `never`; `default`, as long as it "
        "matches the files, unless a catalog sets another mode",
    )
    on_stale: OnStale = _choice(
        OnStale, "original", "what to do when the copy no longer matches the files"
    )

    def __repr__(self) -> str:
        """Return the options with secrets hidden."""
        shown = hide_secrets({f.name: getattr(self, f.name) for f in fields(self)})
        return f"Options({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Options:
        """Return the options that *values* give, with defaults for those left out or None. Pure.

        Raises
        ------
        OptionError
            If a name is unknown (the nearest is suggested), or a value is not accepted.
        """
        known = {f.name: f.metadata for f in fields(cls)}
        for name in values:
            if name not in known:
                raise unknown_option(name, known)
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            if isinstance(value, set | frozenset):
                raise OptionError(
                    f"{name} is a set, whose order differs from process to process; give a list",
                    option=name,
                )
        given = table_as_options(given)
        try:
            options = _ADAPTER.validate_python({"urlpath": "", **given})
        except ValidationError as exc:
            first, *others = exc.errors(include_url=False, include_input=False)
            name, *where = map(str, first["loc"])
            detail = ": ".join(["", *where, first["msg"].removeprefix("Value error, ")])
            if first["type"] == "literal_error" or any(e["loc"][0] == name for e in others):
                detail = ""  # the choices, or each branch of a union: `accepted` lists them better
            shown = repr(mask_secrets({name: given[name]})[name])
            if name == "storage_options" and not isinstance(given[name], Mapping):
                shown = type(given[name]).__name__  # a text may hold keys
            raise OptionError(
                f"{name} must be {known[name]['accepted']}, but got {shown}{detail}",
                option=name,
            ) from None  # pydantic's own text would show secrets
        if not options.urlpath:
            raise OptionError("urlpath is missing: give a file, folder, glob, or a list of these")
        return options


def table_as_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with a DataFrame in ``urlpath`` spelled as a list and ``files``. Pure.

    Raises
    ------
    OptionError
        If the table has no column of URLs, or ``files`` is given too.
    """
    table: Any = given.get("urlpath")
    if hasattr(table, "to_pandas"):  # of Arrow, Polars
        table = table.to_pandas()
    if not (hasattr(table, "iloc") and hasattr(table, "columns")):
        return dict(given)
    names = [str(name) for name in table.columns]
    if not len(table):
        raise OptionError("the DataFrame given as urlpath has no rows")
    if given.get("files"):
        raise OptionError("files and a DataFrame as urlpath both give fields: keep one of them")
    columns = {
        name: [_plain(value) for value in table.iloc[:, place].tolist()]
        for place, name in enumerate(names)
    }
    key = find_url_column(columns, "the DataFrame given as urlpath")
    cells = columns.get("cell", [])
    taken = [row for row in range(len(columns[key])) if not any(cells) or cells[row] is not None]
    kept = {name: [values[row] for row in taken] for name, values in columns.items()}
    urls = kept.pop(key)
    for name in OWN_COLUMNS:
        kept.pop(name, None)
    if not any(kept.get("cell", [])):
        kept.pop("cell", None)
    return {**given, "urlpath": urls, "files": kept}


def _plain(value: Any) -> Any:
    """Return a value of a table as YAML holds it: a time as text, None for what is missing."""
    if value is None or (not isinstance(value, (list, tuple)) and value != value):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value) if isinstance(value, tuple) else value


_URL_COLUMNS = (
    *("url", "urlpath", "path", "href", "uri"),
    *("file", "filename", "file_name", "filepath", "file_path", "location"),
)
_is_file_name = re.compile(r"[^\n]*[^/\n]\.[A-Za-z][A-Za-z0-9]{1,4}(\?\S*)?").fullmatch


def find_url_column(columns: Mapping[str, Sequence[Any]], where: str) -> str:
    """Return the column of a table that names the files. Pure.

    The first of ``url``, ``urlpath``, ``path``, ``href``, ``uri``, ``file``, ``filename``,
    ``file_name``, ``filepath``, ``file_path`` and ``location``, in any case, else the only one of
    which all values are names with a suffix.

    Raises
    ------
    OptionError
        If there is none, or several.

    Examples
    --------
    >>> find_url_column({"well": ["A1"], "Image DAPI": ["a.tif"]}, "list.csv")
    'Image DAPI'
    """
    known = {name.strip().lower(): name for name in columns}
    named = next((known[name] for name in _URL_COLUMNS if name in known), None)
    if named is not None:
        return named
    found = [
        name
        for name, values in columns.items()
        if values and all(isinstance(v, str) and _is_file_name(v.strip()) for v in values)
    ]
    if len(found) == 1:
        return found[0]
    what = (
        f"several columns that may name the files ({', '.join(found)})"
        if found
        else (f"no column that names the files, but {', '.join(columns) or 'none'}")
    )
    raise OptionError(f"{where} has {what}: call the one that does 'url'")


OWN_COLUMNS = ("size", "mtime_ns", "etag")
"""Columns of a table that are not fields."""

_ADAPTER = TypeAdapter(Options)


def given_options(options: Options) -> dict[str, Any]:
    """Return the options that differ from their defaults, without storage options. Pure."""
    defaults = Options.parse({"urlpath": "-"})
    names = [name for name in vars(options) if name != "storage_options"]
    return {n: v for n in names if (v := getattr(options, n)) != getattr(defaults, n)}


_MEANT = {
    "axes": "file_dims (dims inside a file) or concat_dim (fields of the names)",
    "dim_order": "file_dims or dims",
    "imread": "nothing: TIFFs are read by this package",
    "path": "urlpath",
    "path_as_pattern": "pattern",
    "url": "urlpath",
}
"""Names that other packages have for what an option does."""


def unknown_option(name: str, known: Iterable[str]) -> OptionError:
    """Return the error for an option that does not exist. Pure."""
    if name in _MEANT and name not in known:
        return OptionError(f"unknown option {name!r}; here it is {_MEANT[name]}")
    return OptionError.unknown("option", name, known)


def option_signature(*, extra: Sequence[inspect.Parameter] = ()) -> inspect.Signature:
    """Return the signature of each way in: ``urlpath``, then every option as a keyword. Pure."""
    hints = {"urlpath": UrlPath, **get_type_hints(OptionKeywords)}
    parameters = [
        inspect.Parameter(
            f.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD
            if f.name == "urlpath"
            else inspect.Parameter.KEYWORD_ONLY,
            default=_default(f),
            annotation=hints[f.name],
        )
        for f in fields(Options)
    ]
    return inspect.Signature([*parameters, *extra])


def _default(spec: Any) -> Any:
    if spec.default is not MISSING:
        return spec.default
    return inspect.Parameter.empty if spec.default_factory is MISSING else spec.default_factory()


def option_table() -> str:
    """Return the options as a Markdown table, as ``docs/options.md`` shows it. Pure."""
    rows = ["| option | values | default | meaning |", "|---|---|---|---|"]
    for f in fields(Options):
        default = _default(f)
        shown = "-" if default is inspect.Parameter.empty else f"`{default}`"
        rows.append(f"| `{f.name}` | {f.metadata['values']} | {shown} | {f.metadata['doc']} |")
    return "\n".join(rows) + "\n"


def option_docs() -> str:
    """Return the options as the Parameters section of a numpydoc docstring. Pure."""
    lines = ["Parameters", "----------"]
    for f in fields(Options):
        default = _default(f)
        shown = "" if default is inspect.Parameter.empty else f", default {default!r}"
        lines += [f"{f.name} : {f.metadata['values']}{shown}", f"    {f.metadata['doc']}."]
    return "\n".join(lines)
