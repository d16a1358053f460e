"""What all sources of this package share and Intake's base class lacks or does wrongly."""

from __future__ import annotations

import copy
import html
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import yaml
from dask.base import tokenize
from intake.source.base import DataSource, Schema

from intake_tiffstack.collection.metadata_keys import PhysicalPixelSizes, physical_pixel_sizes
from intake_tiffstack.collection.report import array_html, html_table
from intake_tiffstack.driver.entries import (
    check_entry,
    collapse_after,
    default_options,
    describe_parameters,
    option_overrides,
    parameter_names,
    render_overrides,
    rendered_names,
    spell_arguments,
    spell_entry,
    warn_of_relative,
)
from intake_tiffstack.errors import OptionError
from intake_tiffstack.labelled.attributes import NOT_ATTRIBUTES
from intake_tiffstack.metadata.model import CHANNEL_KEYS
from intake_tiffstack.options import Options, unknown_option, urls_of_text
from intake_tiffstack.redact import escape_template, mask_secrets
from intake_tiffstack.storage.urls import absolute_url

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
    from xarray.core.coordinates import DataArrayCoordinates
    from xarray.plot.accessor import DataArrayPlotAccessor

__all__ = ["ArraySource"]

_OF_THE_PIXELS = frozenset({"scale", "translation", "units", "time_interval", *CHANNEL_KEYS})
"""Metadata keys by which a copy is measured and shown: given by the data and the options."""


class ArraySource(DataSource):  # type: ignore[misc]
    """A source of one lazy array with metadata.

    Made by a catalog or ``intake.open_...``; a subclass implements :meth:`_array`,
    :meth:`to_xarray` and :meth:`_discovered`. Nothing is opened before one of these is called.
    """

    name: str = "tiffstack"
    container = "ndarray"
    partition_access = True
    version = "1"
    # Intake would show the YAML; disabled, so that notebooks show _repr_html_
    _ipython_display_ = None
    _signature: ClassVar[inspect.Signature]

    def __init__(self, metadata: Mapping[str, Any] | None, options: Iterable[str]) -> None:
        known = [name for name in self._signature.parameters if name != "metadata"]
        for name in options:
            if name not in known:
                raise unknown_option(name, known)
        self._given_metadata = dict(metadata or {})
        self._schema = Schema()  # the base class reads metadata, for which nothing should be opened
        super().__init__(metadata=dict(self._given_metadata))
        self._schema = None
        self._dims: tuple[str, ...] = ()  # of shape
        self._is_checked = False
        self._options: Options | None = None
        self._overrides: dict[str, Any] = {}
        self._cat: Any = None
        self._pmode: str | None = None  # that of the catalogs, if this source was unpickled
        self._described: str | None = (
            None  # name of the array that shape, dtype and metadata describe
        )

        if "catalog_dir" not in self._given_metadata:  # what an entry lacks a call may still give
            _ = self.options

    @property
    def cat(self) -> Any:
        """The catalog whose entry made this source, None if none did.

        After unpickling it is opened at first use, because a worker may lack its file.
        """
        if isinstance(self._cat, _ClosedCatalog):
            self._cat = self._cat.open()
        return self._cat

    @cat.setter
    def cat(self, catalog: Any) -> None:
        self._cat = catalog

    catalog_object = cat  # Intake sets both

    @property
    def options(self) -> Options:
        """The options of the data, parsed.

        Raises
        ------
        OptionError
            If an option is unknown or its value is not accepted.
        EntryError
            If the catalog entry contradicts itself.
        """
        if self._options is None:
            self._check()
            self._options = Options.parse(self._option_values())
        return self._options

    # -- what a subclass implements ---------------------------------------------------------------

    def _option_values(self) -> dict[str, Any]:
        """Return the options to parse, by name."""
        return self._given()

    def _array(self) -> da.Array:
        """Return the array, lazy."""
        raise NotImplementedError

    def to_xarray(self) -> xr.DataArray:
        """Return the array with named dims and coordinates, lazy."""
        raise NotImplementedError

    def _discovered(self) -> dict[str, Any]:
        """Return the metadata of the data, without those of the catalog entry."""
        raise NotImplementedError

    def relist(self) -> None:
        """Discard what was opened; the next use opens the data again."""
        self._schema = None
        self.metadata = dict(self._given_metadata)

    # -- Intake's interface ------------------------------------------------------------------

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the data, overridden by those of the entry; opened at first use."""
        self._load_metadata()
        return self._metadata

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self._metadata = value  # Intake assigns that of the entry

    def to_dask(self) -> da.Array:
        """Return the array, lazy: no pixel is read."""
        array = self._array()
        if array.name != self._described:  # now the files, or another copy
            self._schema = None
            self.metadata = dict(self._given_metadata)
        self._load_metadata()
        return array

    def discover(self) -> dict[str, Any]:
        """Return dtype, shape, npartitions and metadata; no pixel is read."""
        self.to_dask()
        found: dict[str, Any] = super().discover()
        return found

    def _get_schema(self) -> Schema:
        self._check()
        array = self._array()
        self._described = array.name
        metadata = self._discovered()
        self._dims = tuple(metadata["dims"])
        own = self._given_metadata  # overrides the metadata of the data
        return Schema(
            dtype=array.dtype,
            shape=array.shape,
            npartitions=array.npartitions,
            extra_metadata={k: v for k, v in metadata.items() if k not in own},
        )

    def _check(self) -> None:
        """Raise if the catalog entry contradicts itself; at first use, not when it is listed."""
        if self._entry is not None and not self._is_checked:
            check_entry(self._entry, self._overrides)
            warn_of_relative(
                self._entry, urls_of_text(self._given().get("urlpath", "")), self._overrides
            )
            self._is_checked = True

    def _own_attributes(self) -> dict[str, Any]:
        """Return the entry's metadata that belong in ``attrs`` and in copies."""
        left_out = NOT_ATTRIBUTES | _OF_THE_PIXELS | {"catalog_dir"}
        return dict(_to_yaml({k: v for k, v in self._given_metadata.items() if k not in left_out}))

    def _get_partition(self, i: int) -> Any:
        return self.read_partition(i)

    def read(self) -> Any:
        """Return all pixels in memory."""
        return self.to_dask().compute()

    def read_partition(self, i: int | tuple[int, ...]) -> Any:
        """Return one chunk in memory.

        Parameters
        ----------
        i : int or tuple of int
            Index of the chunk, in C order, or its index along each dim.

        Raises
        ------
        IndexError
            If there is no such chunk.
        """
        array = self.to_dask()
        if isinstance(i, (int, np.integer)):
            if not 0 <= i < array.npartitions:
                raise IndexError(f"partition {i} of {array.npartitions}")
            i = tuple(int(n) for n in np.unravel_index(i, array.numblocks))
        blocks = array.numblocks
        if len(i) != array.ndim or not all(0 <= n < m for n, m in zip(i, blocks, strict=True)):
            raise IndexError(f"partition {i} of {blocks}")
        return array.blocks[i].compute()

    def read_chunked(self) -> Iterator[Any]:
        """Yield the chunks of one array, one after the other, in C order."""
        array = self.to_dask()
        for place in np.ndindex(array.numblocks):
            yield array.blocks[place].compute()

    def close(self) -> None:
        """Discard what was opened; no file is ever held open."""
        self.relist()

    def describe(self) -> dict[str, Any]:
        """Return the description of the entry, or of a source without one; secrets are masked."""
        if self._entry is not None:
            entry: dict[str, Any] = self._entry.describe()
            parameters = describe_parameters(self._entry, {})
            return {**entry, "args": mask_secrets(entry["args"]), "user_parameters": parameters}
        return {
            "name": self.name,
            "container": self.container,
            "plugin": [type(self).name],
            "driver": [type(self).name],
            "description": self.description or "",
            "direct_access": "forbid",
            "user_parameters": [],
            "metadata": copy.deepcopy(self._given_metadata),
            "args": mask_secrets(self._given()),
        }

    # -- what the pixels mean: from the data, whatever the entry's metadata contain ---------------

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dims, outermost first."""
        return tuple(self._discovered()["dims"])

    @property
    def sizes(self) -> dict[str, int]:
        """Extent of each dim, by name."""
        found = self._discovered()
        return dict(zip(found["dims"], found["shape"], strict=True))

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the chunks along each dim, in the form of ``dask.array.Array.chunks``."""
        chunks: tuple[tuple[int, ...], ...] = self._array().chunks
        return chunks

    @property
    def coords(self) -> DataArrayCoordinates[Any]:
        """All coordinates, as in :meth:`to_xarray`."""
        return self.to_xarray().coords

    @property
    def channel_names(self) -> list[str] | None:
        """Name of each channel, ``""`` if it has none; None if no name is known."""
        names: list[str] | None = self._discovered()["channel_names"]
        return names

    @property
    def scale(self) -> dict[str, float]:
        """Spacing by dim, in ``metadata["units"]``; only dims whose spacing is known."""
        steps: dict[str, float] = self._discovered()["scale"]
        return steps

    @property
    def time_interval(self) -> float | None:
        """Seconds between time points, None if not known."""
        seconds: float | None = self._discovered()["time_interval"]
        return seconds

    @property
    def physical_pixel_sizes(self) -> PhysicalPixelSizes:
        """Size of a pixel along Z, Y and X in micrometres, None where not known."""
        return physical_pixel_sizes(self._discovered())

    @property
    def plot(self) -> DataArrayPlotAccessor:
        """The ``plot`` of :meth:`to_xarray`: xarray's, drawn by Matplotlib."""
        return self.to_xarray().plot

    # -- overrides ---------------------------------------------------------------------------

    def configure_new(self, **kwargs: Any) -> Self:
        """Return this source with some options or parameters changed.

        Options replace arguments of this source; a parameter renders the entry again, with
        everything given so far. Catalog, entry and name are kept.

        Parameters
        ----------
        **kwargs
            Options of the source, and user parameters of its catalog entry.
        """
        given, options = self._given(), kwargs
        if self._entry is not None:
            kwargs = render_overrides(self._entry, kwargs, self._overrides)
        overrides = {**self._overrides, **kwargs}
        if self._entry is not None:
            names = rendered_names(self._entry)
            if names & set(kwargs):
                # Intake renders what is given once more
                again = {k: v if k in names else escape_template(v) for k, v in overrides.items()}
                given = self._entry.get(**again)._given()
            options = option_overrides(self._entry, overrides, self._signature.parameters)
            known = [*self._signature.parameters, *parameter_names(self._entry)]
            for name in options.keys() - set(known):
                raise unknown_option(name, known)
        made = type(self)(**{**given, "metadata": self._given_metadata, **options})
        for name in ("name", "description", "_cat", "_entry", "_pmode"):
            if hasattr(self, name):
                setattr(made, name, getattr(self, name))
        made._overrides = overrides
        made._passed_kwargs = list(overrides)
        return made

    __call__ = get = configure_new  # Intake binds these to its own, which drops earlier overrides

    def _given(self) -> dict[str, Any]:
        """Return the arguments that the source was made with, by name, except the metadata."""
        bound = self._signature.bind_partial(
            *self._captured_init_args, **self._captured_init_kwargs
        )
        given = {k: v for k, v in bound.arguments.items() if k != "metadata"}
        for name in ("urlpath", "pattern"):
            if name in given:
                given[name] = collapse_after(self._catalog_dir, given[name])
        if self._entry is None:
            return given
        return {**default_options(self._entry, self._signature.parameters), **given}

    @property
    def _catalog_dir(self) -> str:
        """Folder of the catalog whose entry made this source, empty if none did."""
        return str(self._given_metadata.get("catalog_dir") or "")

    # -- identity: what was given, never what was discovered -----------------------------------

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, ArraySource):
            return NotImplemented
        return self.__dask_tokenize__() == other.__dask_tokenize__()  # an option may be an array

    def __hash__(self) -> int:
        return hash(self.__dask_tokenize__())

    def __dask_tokenize__(self) -> str:
        return str(tokenize(type(self).__qualname__, self._given(), self._given_metadata))

    def __getstate__(self) -> dict[str, Any]:
        return {
            "kwargs": {**self._given(), "metadata": self._given_metadata},
            "name": self.name,
            "description": self.description,
            "cat": _ClosedCatalog.of(self._cat),
            "entry": self._entry,
            # an entry is pickled without those of its catalogs
            "parameters": None if self._entry is None else self._entry._user_parameters,
            "overrides": self._overrides,
            "pmode": self._mode_of_catalogs(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._captured_init_args = ()
        self._captured_init_kwargs = state["kwargs"]
        self.__init__(**state["kwargs"])  # type: ignore[misc]
        self.name = state["name"]
        self.description = state["description"]
        self._cat = state["cat"]
        self._entry = state["entry"]
        if self._entry is not None:
            self._entry._user_parameters = state["parameters"]
        self._overrides = state["overrides"]
        self._passed_kwargs = list(self._overrides)
        self._pmode = state["pmode"]

    @property
    def persist_mode(self) -> str:
        """Whether a persisted copy is used: the option, else the mode of the nearest catalog."""
        mode = self._given().get("persist_mode") or "default"
        return self._mode_of_catalogs() if mode == "default" else mode

    def _mode_of_catalogs(self) -> str:
        """Return the mode of the nearest catalog that has one."""
        if self._pmode is not None:
            return self._pmode
        mode, catalog = "default", self.cat
        while mode == "default" and catalog is not None:
            mode = getattr(catalog, "pmode", None) or "default"
            catalog = getattr(catalog, "cat", None)
        return mode

    # -- text --------------------------------------------------------------------------------

    def _yaml(self) -> dict[str, Any]:
        if self._entry is None:
            spelled: dict[str, Any] = {"args": spell_arguments(self._given())}
        else:
            spelled = spell_entry(self._entry, self._overrides, self._signature.parameters)
        # Intake renders these too
        metadata = {
            k: escape_template(v) for k, v in self._given_metadata.items() if k != "catalog_dir"
        }
        return {
            "sources": {
                self.name: {
                    "driver": type(self).name,
                    "description": self.description or "",
                    "metadata": metadata,
                    **spelled,
                }
            }
        }

    def yaml(self) -> str:
        """Return the text of a catalog that opens this source again; it contains no secret."""
        spelled = _to_yaml(self._yaml(), with_dates=True)
        return yaml.safe_dump(spelled, default_flow_style=False, sort_keys=False)

    def __repr__(self) -> str:
        where = mask_secrets(_tidy(self._given().get("urlpath")))
        if isinstance(where, list):
            where = f"{len(where)} urlpaths"
        opened = "" if self.shape is None else self._array_text()
        texts = ", ".join(filter(None, [str(where), opened, self._pixels_text()]))
        return f"<{type(self).__name__} {self.name!r}: {texts}>"

    def _pixels_text(self) -> str:
        """Return where pixels come from, empty if there is but one place."""
        return ""

    def _array_text(self) -> str:
        sizes = ", ".join(f"{d}: {n}" for d, n in zip(self._dims, self.shape, strict=True))
        return f"({sizes}) {self.dtype}"

    def _repr_html_(self) -> str:
        rows = {"driver": type(self).name, "description": self.description or ""}
        given = self._given()
        given["urlpath"] = _tidy(given.get("urlpath"))
        rows |= {k: _in_short(str(v)) for k, v in mask_secrets(given).items()}
        rows["pixels"] = self._pixels_text()
        table = html_table([(key, text) for key, text in rows.items() if text])
        if self.shape is None:
            return f"<b>{html.escape(str(self.name))}</b>, not opened yet{table}"
        return array_html(str(self.name), self._dims, self._array()) + table


@dataclass(frozen=True)
class _ClosedCatalog:
    """A catalog that is not open."""

    kind: Any
    state: dict[str, Any]

    @classmethod
    def of(cls, catalog: Any) -> Any:
        """Return a catalog closed; None and a closed one stay."""
        if catalog is None or isinstance(catalog, cls):
            return catalog
        return cls(type(catalog), dict(catalog.__getstate__()))

    def open(self) -> Any:
        """Return the catalog; loads it."""
        made = self.kind.__new__(self.kind)
        made.__setstate__(dict(self.state))
        return made


def _in_short(text: str) -> str:
    """Return a text, of a long one, such as a list of many URLs, both ends."""
    return text if len(text) <= 1000 else f"{text[:400]} ... {text[-400:]}"


def _tidy(urlpath: Any) -> Any:
    """Return a urlpath for display, with ``/catalogs/../raw`` resolved."""
    if isinstance(urlpath, (list, tuple)):
        return [_tidy(url) for url in urlpath]
    return absolute_url(urlpath) if isinstance(urlpath, str) and urlpath[:1] == "/" else urlpath


def _to_yaml(value: Any, *, with_dates: bool = False) -> Any:
    """Return *value* in types of safe YAML: no tuple, no array, no NumPy scalar.

    Dates become text unless *with_dates*: JSON has none.
    """
    convert = partial(_to_yaml, with_dates=with_dates)
    if isinstance(value, Mapping):
        return {convert(k): convert(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [convert(v) for v in value]
    if with_dates and type(value) in (date, datetime):
        return value
    if with_dates and isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "M":
        return value.astype("datetime64[us]").tolist()
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return _to_yaml(value.tolist() if value.dtype.kind != "M" else value.astype(str).tolist())
    if isinstance(value, (date, time)):
        return value.isoformat()
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    raise OptionError(
        f"{value!r} of type {type(value).__name__} can be neither written as YAML nor stored as an "
        "attribute"
    )
