"""The sources: a collection of TIFF files, and a Zarr copy of one."""

from __future__ import annotations

import inspect
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Self,
    TypedDict,
    Unpack,
    cast,
    overload,
)

import dask
from dask.base import tokenize
from dask.utils import parse_bytes

from intake_tiffstack.arrays.chunks import choose_block_chunks
from intake_tiffstack.arrays.lazy_array import to_dask_array
from intake_tiffstack.audit import CopyCheck, verify
from intake_tiffstack.collection.metadata_keys import complete_metadata
from intake_tiffstack.collection.report import FROM_FILES
from intake_tiffstack.collection.suggest import INFER, INFERRED
from intake_tiffstack.copies.open_zarr import ZarrCopy
from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.copies.record import CopyRecord
from intake_tiffstack.driver.base import ArraySource
from intake_tiffstack.driver.entries import absolute_urlpath
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.formats import FORMATS, open_copy, read_copy_record
from intake_tiffstack.export.options import (
    OPTIONS,
    IcechunkExportOptions,
    OmeTiffExportOptions,
    OmeZarrExportOptions,
    PersistOptions,
    ReferencesExportOptions,
    ZarrExportOptions,
    show_options,
)
from intake_tiffstack.labelled.attributes import decode_attrs
from intake_tiffstack.options import (
    OptionKeywords,
    UrlPath,
    option_docs,
    option_signature,
    table_as_options,
)
from intake_tiffstack.persist import (
    CollectionCopies,
    PersistedStack,
    choose_copy,
    none_persisted,
    persist_again,
    persist_collection,
    pixel_key,
)
from intake_tiffstack.settings import setting
from intake_tiffstack.stack import TiffStack
from intake_tiffstack.storage.urls import absolute_url

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd
    import xarray as xr
    from ome_types import OME
    from PIL import Image

    from intake_tiffstack.collection.report import Report
    from intake_tiffstack.options import Options

__all__ = ["TiffStackSource", "TiffStackZarrSource"]

_METADATA = inspect.Parameter("metadata", inspect.Parameter.KEYWORD_ONLY, default=None)


class _Copies:
    """The persisted copies opened last in this process: a generation never changes."""

    def __init__(self) -> None:
        self._copies: OrderedDict[str, PersistedStack] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, copy: PersistedStack) -> PersistedStack:
        """Return the copy opened before with the same options and credentials, else *copy*."""
        of = copy.copies
        key = tokenize(copy.options, of.url, copy.generation.token, of.store.storage_options)
        with self._lock:
            copy = self._copies.setdefault(key, copy)
            self._copies.move_to_end(key)
            while len(self._copies) > max(1, int(setting("table_cache"))):
                self._copies.popitem(last=False)
            return copy


_COPIES = _Copies()


class TiffStackSource(ArraySource):
    """A collection of TIFF files as one lazy, labelled array."""

    name = "tiffstack"
    _signature: ClassVar[inspect.Signature] = option_signature(extra=[_METADATA])
    __signature__ = _signature  # Intake's __new__ hides that of __init__

    def __init__(
        self,
        urlpath: UrlPath = "",
        *,
        metadata: Mapping[str, Any] | None = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        super().__init__(metadata, options)
        self._files: TiffStack | None = None
        self._in_use: TiffStack | None = None  # read by the last to_dask()

    @property
    def stack(self) -> TiffStack:
        """The collection of the files, without Intake."""
        if self._files is None:
            self._files = TiffStack(self.options)
        return self._files

    def _given(self) -> dict[str, Any]:
        """Return the arguments, a DataFrame as a list and ``files``, as YAML holds them."""
        return table_as_options(super()._given())

    def _settled(self) -> Options:
        """Return the options with an explicit pattern; lists the files where it is inferred."""
        return self.stack.settle() if self.options.pattern == INFER else self.options

    def _yaml(self) -> dict[str, Any]:
        """Return the entry; its pattern is explicit, so that it means the same tomorrow."""
        spelled = super()._yaml()
        arguments = spelled["sources"][self.name]["args"]
        if arguments.get("pattern") == INFER:
            taken = self._settled()
            for name in INFERRED:
                if (value := getattr(taken, name)) != getattr(self.options, name):
                    arguments[name] = absolute_urlpath(value) if name == "urlpath" else value
        return spelled

    def _choose(self) -> TiffStack:
        """Return the collection to read now: its persisted copy or its files."""
        copy = choose_copy(self.stack, self.persist_mode, _COPIES.get)
        self._in_use = self.stack if copy is None else copy
        return self._in_use

    def _used(self) -> TiffStack:
        """Return the collection that the last to_dask() read."""
        return self._in_use or self._choose()

    def _array(self) -> da.Array:
        return self._used().to_dask()

    def to_dask(self) -> da.Array:
        """Return the array, lazy: no pixel is read.

        Each call decides by ``persist_mode`` and ``on_stale`` whether a persisted copy is read;
        the returned array keeps to that decision.
        """
        self._choose()
        return super().to_dask()

    def to_xarray(self, chunks: Literal["option"] | None = "option") -> xr.DataArray:
        """Return the lazy array with named dims, coordinates and units.

        Parameters
        ----------
        chunks : {"option"} or None
            ``"option"`` wraps :meth:`to_dask`; None is lazy without dask.
        """
        self.to_dask()
        from intake_tiffstack.labelled.dataarray import set_metadata

        named = self._used().to_xarray(chunks)
        named = set_metadata(named, decode_attrs(named.attrs) | self._own_attributes())
        return named.rename(self.name if self._entry is not None else None)

    def to_datatree(self, chunks: Literal["option"] | None = "option") -> xr.DataTree:
        """Return the levels of the pyramid in the files as nodes ``0``, ``1`` ...

        See :meth:`intake_tiffstack.TiffStack.to_datatree`; levels are read from the files.
        """
        self._check()
        return self.stack.to_datatree(chunks)

    def preview(
        self, *, percentiles: tuple[float, float] = (0.5, 99.8), width: int = 384
    ) -> Image.Image:
        """Return a picture; see :meth:`intake_tiffstack.TiffStack.preview`."""
        self.to_dask()
        return self._used().preview(percentiles=percentiles, width=width)

    def _discovered(self) -> dict[str, Any]:
        return self._used().metadata

    def report(self, *, thumbnails: bool = False) -> Report:
        """Return what was found and what is missing, before any pixel is read.

        It also says whether pixels come from the files or from a persisted copy; see
        :meth:`intake_tiffstack.TiffStack.report`.
        """
        has_copy = self.persist_mode != "never" and self.has_been_persisted
        pixels = ""
        if has_copy and self._in_use is None:
            then = {"refresh": "makes anew", "extend": "extends"}.get(self.options.on_stale)
            if then is not None and not self.is_persisted:
                pixels = f"from the copy, which to_dask() {then} if the files have changed"
            else:
                self._choose()
        used = self._used() if self.is_persisted and has_copy else self.stack
        report = used.report(thumbnails=thumbnails)
        return replace(report, pixels=pixels or self._pixels_text() or FROM_FILES)

    def _pixels_text(self) -> str:
        """Return where pixels come from, empty if that is decided at the first use."""
        if isinstance(self._in_use, PersistedStack):
            return f"from the copy of {self._in_use.generation.created:%Y-%m-%d}"
        if self._in_use is not None:
            return FROM_FILES
        if not self.is_persisted:
            return ""
        copies = self._copies()
        generation = copies.current()
        if generation is None:
            return f"persist_mode is 'always', but {none_persisted(self.options, copies)}"
        return f"from the copy of {generation.created:%Y-%m-%d}"

    @property
    def files(self) -> pd.DataFrame:
        """Table of the files, see :attr:`intake_tiffstack.TiffStack.files`."""
        return self.stack.files

    @property
    def ome_metadata(self) -> OME | None:
        """The OME-XML of the first file, None if it has none; needs ome-types."""
        return self.stack.ome_metadata

    def file_metadata(self, which: int | str = 0) -> dict[str, Any]:
        """Return the metadata of one file, see :meth:`intake_tiffstack.TiffStack.file_metadata`."""
        return self.stack.file_metadata(which)

    def refresh(self) -> list[str]:
        """List the files again, and return the URLs of those that are new or changed.

        See :meth:`intake_tiffstack.TiffStack.refresh`; an array returned earlier stays what it was.
        """
        new = self.stack.refresh()
        super().relist()
        self._in_use = None
        return new

    def relist(self) -> None:
        """Discard the listing; the next use lists the files again."""
        super().relist()
        self._in_use = None
        if self._files is not None:
            self._files.relist()

    @overload
    def export(  # type: ignore[overload-overlap]
        self,
        url: str | os.PathLike[str],
        *,
        dry_run: Literal[True],
        format: str = "zarr",
        attrs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> ExportPlan: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["zarr"] = "zarr",
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[ZarrExportOptions],
    ) -> TiffStackZarrSource: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["ome-zarr"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[OmeZarrExportOptions],
    ) -> TiffStackZarrSource: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["ome-tiff"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[OmeTiffExportOptions],
    ) -> TiffStackSource: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["references"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[ReferencesExportOptions],
    ) -> TiffStackZarrSource: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["icechunk"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[IcechunkExportOptions],
    ) -> TiffStackZarrSource: ...

    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: str = "zarr",
        attrs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> TiffStackZarrSource | TiffStackSource | ExportPlan:
        """Write a copy of the array of :meth:`to_dask`, and return a source of the copy.

        With ``dry_run=True`` nothing is written, and the plan is returned.
        """
        # references point to the files, even if there is a persisted copy
        is_reference = format in ("references", "icechunk")
        stack = self.stack if is_reference else self._choose()
        attrs = {**self._own_attributes(), **(attrs or {})}
        plan = stack.export(url, format=cast(Any, format), attrs=attrs, **options)
        if options.get("dry_run"):
            return plan
        given: dict[str, Any] = {
            "storage_options": options.get("storage_options"),
            "remote_options": self.options.storage_options if is_reference else None,
        }
        if self.options.arraytype != "numpy":
            given["arraytype"] = self.options.arraytype
        is_tiff = FORMATS[format].open is None
        if is_tiff and plan.arrays[0].count > 1:
            given["series"] = "all"
        driver = TiffStackSource if is_tiff else TiffStackZarrSource
        copy = driver(absolute_url(os.fspath(url)), **{k: v for k, v in given.items() if v})
        copy.description = self.description
        return copy

    # -- the persisted copy --------------------------------------------------------------------

    def persist(self, ttl: float | None = None, **options: Unpack[PersistOptions]) -> Self:
        """Write a Zarr copy of the files into the store, to be read instead of the files.

        A copy that still holds is returned at once: it can be read, has not expired, was written
        with the same options, and the files have not changed since.

        Parameters
        ----------
        ttl : float, optional
            Seconds until the copy is no longer used by default; None for as long as the files do
            not change.
        **options
            ``zarr_format``, ``chunks``, ``shards``, ``compressor``, ``verify`` and ``progress``,
            see :meth:`export`.

        Returns
        -------
        TiffStackSource
            This source, reading the copy; see :meth:`get_persisted`.

        Raises
        ------
        OptionError
            If an option is unknown or wrong, or the source fills what it cannot read.
        StorageError
            If the store refuses, or the copy exceeds ``persist_limit`` in the default store.
        """
        persist_collection(self._settled(), ttl=ttl, **options)
        return self.get_persisted()

    def repersist(self, **options: Unpack[PersistOptions]) -> Self:
        """Write a new copy, as before except for *options*; see :meth:`persist`."""
        persist_again(self._settled(), **options)
        return self.get_persisted()

    def get_persisted(self) -> Self:
        """Return this source reading the copy, whether or not it still matches the files.

        Raises
        ------
        FilesNotFoundError
            If there is no copy.
        """
        copies = self._copies()
        if copies.current() is None:
            raise none_persisted(self._settled(), copies)
        return self.configure_new(persist_mode="always")

    @property
    def has_been_persisted(self) -> bool:
        """Whether the store contains a copy of these pixels."""
        return self._copies().current() is not None

    @property
    def is_persisted(self) -> bool:
        """Whether this source only reads a copy, like the one :meth:`persist` returns."""
        return self.persist_mode == "always"

    def unpersist(self) -> None:
        """Remove the copy from the store, for all sources of these pixels."""
        self._copies().remove()

    def _copies(self) -> CollectionCopies:
        """Return the place of the copy in the store, written or not."""
        return CollectionCopies.of(pixel_key(self._settled()))


show_options(TiffStackSource.export, *OPTIONS.values())
show_options(TiffStackSource.persist, PersistOptions)
show_options(TiffStackSource.repersist, PersistOptions)

TiffStackSource.__doc__ = f"""A collection of TIFF files as one lazy, labelled array.

``driver: tiffstack`` in a catalog, or ``intake.open_tiffstack(urlpath, ...)``; the options are
those of :func:`intake_tiffstack.open_stack`.

{option_docs()}
metadata : dict, default None
    of the entry; overrides the metadata of the files.

Examples
--------
>>> import intake
>>> source = intake.open_tiffstack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
>>> source(sel={{"c": 0}})(chunks="page").to_xarray().sizes["t"]   # options given later apply too
3
>>> copy = source.persist(progress=False)
>>> copy.is_persisted, source.has_been_persisted
(True, True)
>>> source.unpersist()
"""
_OPTIONS_OF_EXPORT = (TiffStack.export.__doc__ or "").partition("\n")[2]
TiffStackSource.export.__doc__ = f"{TiffStackSource.export.__doc__}\n{_OPTIONS_OF_EXPORT}"


class _NoOptions(TypedDict):
    """Nothing else, to a type checker; at run time the error suggests the nearest name."""


def _signature_of(init: Callable[..., None]) -> inspect.Signature:
    """Return the signature of a class by its ``__init__(self, urlpath, ..., **unknown)``. Pure."""
    _, urlpath, *options, _ = inspect.signature(init).parameters.values()
    return inspect.Signature([urlpath.replace(default=inspect.Parameter.empty), *options])


class TiffStackZarrSource(ArraySource):
    """A Zarr array with named dims, an image of an OME-Zarr, or files read by references.

    ``driver: tiffstack_zarr`` in a catalog, or ``intake.open_tiffstack_zarr(urlpath)``.

    Parameters
    ----------
    urlpath : str or path-like
        The folder of the Zarr array or OME-Zarr, or a document of references (``.json``); local or
        any fsspec URL.
    storage_options : mapping, optional
        Passed to fsspec.
    sel : mapping, optional
        Selects by the values of a coordinate: a value, a list of values, or
        ``{"from": a, "to": b}`` with both ends included.
    chunks : object
        Chunks of the dask array: ``auto``, a size such as ``"64 MiB"``, a number, or sizes by dim;
        by default whole shards, or several chunks of the copy.
    dims : list of str, optional
        Names of the dims of a Zarr array that does not name them.
    mask_and_scale : bool
        Whether :meth:`to_xarray` gives NaN for nodata and applies scale and offset.
    arraytype : str
        Array type of a chunk: ``numpy``, ``cupy``, or a dotted name (with the setting
        ``allow_code``).
    level : int
        Of an OME-Zarr: index of the pyramid level.
    image : str, optional
        Of an OME-Zarr: path of the image (``B/03/0``) in a plate or series; of a group that xarray
        wrote: name of the array.
    remote_options : mapping, optional
        Of references: passed to fsspec for the files referred to; `storage_options` if not given.
    metadata : mapping, optional
        Of the entry; overrides the metadata of the copy.

    Examples
    --------
    >>> import intake
    >>> source = intake.open_tiffstack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
    >>> copy = source.export("scan.zarr")
    >>> intake.open_tiffstack_zarr("scan.zarr", sel={"t": 1}).to_xarray().sizes["t"]
    1
    >>> bool(copy.verify())
    True
    """

    name = "tiffstack_zarr"

    def __init__(
        self,
        urlpath: str | os.PathLike[str] = "",
        *,
        storage_options: Mapping[str, Any] | None = None,
        sel: Mapping[str, Any] | None = None,
        chunks: Any = "auto",
        dims: Sequence[str] | str | None = None,
        mask_and_scale: bool = False,
        arraytype: str = "numpy",
        level: int = 0,
        image: str | None = None,
        remote_options: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **unknown: Unpack[_NoOptions],
    ) -> None:
        super().__init__(metadata, unknown)
        self.urlpath = urlpath
        self.image = image
        self.remote_options = remote_options or {}
        self._copy: ZarrCopy | None = None

    _signature: ClassVar[inspect.Signature] = _signature_of(__init__)
    __signature__ = _signature

    def __getattr__(self, name: str) -> Any:
        if hasattr(TiffStackSource, name) and not hasattr(type(self), name):
            raise AttributeError(
                f"{name!r} is an attribute of a source of TIFF files, but this one reads a Zarr "
                "copy; use it on the source that the copy was made from",
                name=name,
                obj=self,
            )
        return object.__getattribute__(self, name)  # raises Python's own error

    def _option_values(self) -> dict[str, Any]:
        """Return the options that are parsed as for a collection, text of templates included."""
        return {k: v for k, v in self._given().items() if k not in ("image", "remote_options")}

    @property
    def copy(self) -> ZarrCopy:
        """The stored copy; opened at first use."""
        if self._copy is None:
            urlpath = self.options.urlpath
            if not isinstance(urlpath, str):
                raise OptionError(
                    f"urlpath of a Zarr copy must be one URL, but got a list of {len(urlpath)}"
                )
            self._copy = open_copy(
                urlpath,
                self.options.storage_options,
                dims=self.options.dims or None,
                level=self.options.level,
                image=self.image,
                remote_options=self.remote_options,
                arraytype=self.options.arraytype,
                sel=self.options.sel,
            )
        return self._copy

    @property
    def record(self) -> CopyRecord | None:
        """The audit record of the copy: its files, software, options and what was verified.

        None for a Zarr that has none, such as one of another program. One small request.
        """
        urlpath = self.options.urlpath
        return read_copy_record(cast(str, urlpath), self.options.storage_options)

    def verify(self, **options: Any) -> CopyCheck:
        """Compare the copy with the files that it was made of.

        See :func:`intake_tiffstack.verify` for the options and the result.
        """
        return verify(self, **options)

    def report(self) -> str:
        """Return what is known of the copy: its array, and its audit record in one line."""
        record = self.record
        self.discover()
        made = "it has no audit record" if record is None else f"made as {record}"
        return f"{self!r}\n{made}"

    def _array(self) -> da.Array:
        copy, spec = self.copy, self.options.chunks
        if isinstance(spec, str) and spec == "auto":
            return copy.array
        if isinstance(spec, str) and spec in ("file", "page"):
            raise OptionError(
                f"chunks={spec!r} is of files, and a Zarr has none: give sizes, or `auto`"
            )
        chunks = choose_block_chunks(
            spec,
            dict(zip(copy.dims, copy.array.shape, strict=True)),
            copy.blocks,
            itemsize=copy.array.dtype.itemsize,
            dask_chunk_bytes=int(parse_bytes(dask.config.get("array.chunk-size"))),
        )
        return to_dask_array(copy.pixels, chunks)

    def to_xarray(self, chunks: Literal["option"] | None = "option") -> xr.DataArray:
        """Return the lazy array with its dims, coordinates and attributes.

        Parameters
        ----------
        chunks : {"option"} or None
            ``"option"`` wraps :meth:`to_dask`; None is lazy without dask.
        """
        from intake_tiffstack.labelled.dataarray import label_array
        from intake_tiffstack.labelled.packing import unpack

        self._load_metadata()
        copy = self.copy
        metadata = {**copy.attrs, **self._own_attributes()}
        if chunks not in ("option", None):
            raise OptionError(
                f"chunks must be 'option' or None here, but got {chunks!r}; give another chunk "
                "shape as an option of the source"
            )
        data = copy.pixels if chunks is None else self._array()
        named = label_array(data, copy.dims, copy.coords, metadata)
        if self.options.mask_and_scale:
            named = unpack(named)
        return named.rename(None if self._entry is None else self.name)

    def to_datatree(self) -> xr.DataTree:
        """Return the levels of the pyramid of an OME-Zarr as nodes ``0``, ``1`` ...

        ``0`` is this array, and the only node of any other Zarr.
        """
        from intake_tiffstack.labelled.datatree import label_levels

        levels = [self.to_xarray()]
        while True:
            try:
                levels.append(self(level=self.options.level + len(levels)).to_xarray())
            except OptionError:  # there is no such level
                return label_levels(levels)

    def preview(
        self, *, percentiles: tuple[float, float] = (0.5, 99.8), width: int = 384
    ) -> Image.Image:
        """Return a picture; see :meth:`intake_tiffstack.TiffStack.preview`.

        The coarsest level of a pyramid that is wide enough is the cheapest: choose it by the option
        ``level``.
        """
        from intake_tiffstack.preview import Drawable, draw_preview

        shown = Drawable(self.copy.pixels.on_host(), self.dims, self.coords, self._discovered())
        return draw_preview(shown, percentiles=percentiles, width=width)

    def _discovered(self) -> dict[str, Any]:
        copy = self.copy
        return complete_metadata(
            copy.attrs,
            dims=copy.dims,
            shape=copy.array.shape,
            dtype=copy.array.dtype,
            coords=copy.coords,
        )

    def relist(self) -> None:
        """Discard the opened copy; the next use opens it again."""
        super().relist()
        self._copy = None
