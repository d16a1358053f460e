"""The sources themselves: a collection of TIFF files, and a Zarr copy of one."""

from __future__ import annotations

import inspect
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from dask.base import tokenize

from intake_tiffstack.collection.metadata_keys import complete_metadata
from intake_tiffstack.copies.open_zarr import ZarrCopy
from intake_tiffstack.driver.base import ArraySource
from intake_tiffstack.driver.entries import absolute_urlpath
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.formats import open_copy
from intake_tiffstack.export.options import (
    OPTIONS,
    OmeZarrExportOptions,
    PersistOptions,
    ReferencesExportOptions,
    ZarrExportOptions,
    show_options,
)
from intake_tiffstack.options import (
    OptionKeywords,
    Options,
    UrlPath,
    option_docs,
    option_signature,
)
from intake_tiffstack.persist import (
    PersistedStack,
    Shelf,
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

    from intake_tiffstack.collection.report import Report

__all__ = ["TiffStackSource", "TiffStackZarrSource"]

_METADATA = inspect.Parameter("metadata", inspect.Parameter.KEYWORD_ONLY, default=None)


AnyStack = TypeVar("AnyStack", bound=TiffStack)


class _Stacks:
    """The collections opened last in this process, by what they are of.

    A catalog hands out a new source once its 60 s have passed; the listing should not be taken
    anew with it, nor what a copy remembers be read anew at each use.
    """

    def __init__(self) -> None:
        self._stacks: OrderedDict[str, TiffStack] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, stack: AnyStack, *of: Any) -> AnyStack:
        """Return the one that was opened before of the same options and *of*, else *stack*."""
        where = absolute_urlpath(stack.options.urlpath)  # the current folder may change
        key = tokenize(type(stack), stack.options, where, of)
        with self._lock:
            stack = cast(AnyStack, self._stacks.setdefault(key, stack))
            self._stacks.move_to_end(key)
            while len(self._stacks) > max(1, int(setting("table_cache"))):
                self._stacks.popitem(last=False)
            return stack

    def get_copy(self, copy: PersistedStack) -> PersistedStack:
        """Return the copy as it was opened before, by the same credentials."""
        shelf = copy.shelf
        return self.get(copy, shelf.url, copy.generation.token, shelf.store.storage_options)


_STACKS = _Stacks()


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
        super().__init__(metadata)
        self.options = Options.parse({"urlpath": urlpath, **options})
        self.storage_options = self.options.storage_options
        self._files: TiffStack | None = None
        self._in_use: TiffStack | None = None  # what the last to_dask() was of

    @property
    def stack(self) -> TiffStack:
        """The collection without Intake, over its files."""
        if self._files is None:
            self._check()
            self._files = _STACKS.get(TiffStack(self.options))
        return self._files

    def _choose(self) -> TiffStack:
        """Return the collection over its copy or its files, whichever is to be read now."""
        copy = choose_copy(self.stack, self.persist_mode, _STACKS.get_copy)
        self._in_use = self.stack if copy is None else copy
        return self._in_use

    def _used(self) -> TiffStack:
        """Return what the last to_dask() was of."""
        return self._in_use or self._choose()

    def _array(self) -> da.Array:
        return self._used().to_dask()

    def to_dask(self) -> da.Array:
        """Return the array, lazy: no pixel is read.

        Whether a persisted copy is read is decided anew each time, as ``persist_mode`` and
        ``on_stale`` say; the array that is returned stays with what was decided.
        """
        self._choose()
        return super().to_dask()

    def to_xarray(self, chunks: Any = "option") -> xr.DataArray:
        """Return the same pixels with named dims, coords and units.

        Parameters
        ----------
        chunks
            ``"option"`` wraps :meth:`to_dask`; None is lazy without dask.
        """
        self.to_dask()
        named = self._used().to_xarray(chunks).assign_attrs(self._own_attributes())
        return named.rename(self.name if self._entry is not None else None)

    def _discovered(self) -> dict[str, Any]:
        return self._used().metadata

    def report(self) -> Report:
        """Return what was found and what is missing, before any pixel is read."""
        return self.stack.report()

    @property
    def files(self) -> pd.DataFrame:
        """All files that take part, as :attr:`intake_tiffstack.TiffStack.files` has them."""
        return self.stack.files

    @property
    def ome_metadata(self) -> OME | None:
        """All of the OME-XML of the first file, None where it has none; needs ome-types."""
        return self.stack.ome_metadata

    def file_metadata(self, which: int | str = 0) -> dict[str, Any]:
        """Return all that one file says, as :meth:`intake_tiffstack.TiffStack.file_metadata`."""
        return self.stack.file_metadata(which)

    def relist(self) -> None:
        """Forget the listing, so that the next use sees the files as they are then."""
        super().relist()
        self._in_use = None
        self.stack.relist()  # sources with the same options share it

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
        format: Literal["references"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[ReferencesExportOptions],
    ) -> TiffStackZarrSource: ...

    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: str = "zarr",
        attrs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> TiffStackZarrSource:
        """Write a copy of what :meth:`to_dask` gives, and return a source over it."""
        is_reference = format == "references"  # to the files, be there a persisted copy or not
        stack = self.stack if is_reference else self._choose()
        attrs = {**self._own_attributes(), **(attrs or {})}
        stack.export(url, format=cast(Any, format), attrs=attrs, **options)
        given: dict[str, Any] = {
            "storage_options": options.get("storage_options"),
            "remote_options": self.options.storage_options if is_reference else None,
        }
        if self.options.arraytype != "numpy":
            given["arraytype"] = self.options.arraytype
        copy = TiffStackZarrSource(
            absolute_url(os.fspath(url)), **{k: v for k, v in given.items() if v}
        )
        copy.description = self.description
        return copy

    # -- the persisted copy --------------------------------------------------------------------

    def persist(self, ttl: float | None = None, **options: Unpack[PersistOptions]) -> Self:
        """Write a Zarr copy of the files into the store; from then on it is read in their place.

        Parameters
        ----------
        ttl
            Seconds until the copy is no longer used unasked; None for as long as the files stay
            as they are.
        **options
            ``zarr_format``, ``chunks``, ``shards``, ``compressor``, ``verify`` and ``progress``,
            as :meth:`export` has them.

        Returns
        -------
        TiffStackSource
            As :meth:`get_persisted`.
        """
        self._check()
        persist_collection(self.options, ttl=ttl, **options)
        return self.get_persisted()

    def repersist(self, **options: Unpack[PersistOptions]) -> Self:
        """Write the copy anew, as it was made but for *options*; see :meth:`persist`."""
        self._check()
        persist_again(self.options, **options)
        return self.get_persisted()

    def get_persisted(self) -> Self:
        """Return this source with the copy as its pixels, whether or not that still holds.

        Raises
        ------
        FilesNotFoundError
            There is no copy.
        """
        shelf = self._shelf()
        if shelf.current() is None:
            raise none_persisted(self.options, shelf)
        return self.configure_new(persist_mode="always")

    @property
    def has_been_persisted(self) -> bool:
        """Whether the store has a copy of these pixels."""
        return self._shelf().current() is not None

    @property
    def is_persisted(self) -> bool:
        """Whether this source reads a copy alone, as :meth:`persist` returns it."""
        return self.persist_mode == "always"

    def unpersist(self) -> None:
        """Remove the copy from the store, for every source of these pixels."""
        self._shelf().remove()

    def _shelf(self) -> Shelf:
        """Return where the store has, or would have, the copy."""
        self._check()
        return Shelf.of(pixel_key(self.options))


show_options(TiffStackSource.export, *OPTIONS.values())
show_options(TiffStackSource.persist, PersistOptions)
show_options(TiffStackSource.repersist, PersistOptions)

TiffStackSource.__doc__ = f"""A collection of TIFF files as one lazy, labelled array.

``driver: tiffstack`` in a catalog, or ``intake.open_tiffstack(urlpath, ...)``; the options are
those of :func:`intake_tiffstack.open_stack`.

{option_docs()}
metadata : dict, default None
    the entry's own; its keys win over what the files say.
"""
_OPTIONS_OF_EXPORT = (TiffStack.export.__doc__ or "").partition("\n")[2]
TiffStackSource.export.__doc__ = f"{TiffStackSource.export.__doc__}\n{_OPTIONS_OF_EXPORT}"


class _NoOptions(TypedDict):
    """Nothing else, to a type checker; at run time the error suggests the nearest name."""


class TiffStackZarrSource(ArraySource):
    """A copy that this package wrote, any Zarr array with dims, or an image of any OME-Zarr.

    ``driver: tiffstack_zarr`` in a catalog, or ``intake.open_tiffstack_zarr(urlpath)``.

    Parameters
    ----------
    urlpath
        The folder of the Zarr array or OME-Zarr, or a document of references (``.json``); local or
        any fsspec URL.
    storage_options
        Handed to fsspec.
    level, image
        Of an OME-Zarr: which level of the pyramid, and the path of the image (``B/03/0``) in a
        plate or series.
    remote_options
        Of references: handed to fsspec for the files referred to; `storage_options` where it is
        not given.
    sel
        Keeps positions by the values of a coordinate: a value, a list of values, or
        ``{"from": a, "to": b}`` with both ends included.
    arraytype
        What a chunk is: ``numpy``, ``cupy``, or a dotted name (with the setting ``allow_code``).
    metadata
        The entry's own; its keys win over the copy's.
    """

    name = "tiffstack_zarr"
    _signature: ClassVar[inspect.Signature] = inspect.Signature(
        [
            inspect.Parameter("urlpath", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            inspect.Parameter("storage_options", inspect.Parameter.KEYWORD_ONLY, default=None),
            inspect.Parameter("sel", inspect.Parameter.KEYWORD_ONLY, default=None),
            inspect.Parameter("arraytype", inspect.Parameter.KEYWORD_ONLY, default="numpy"),
            inspect.Parameter("level", inspect.Parameter.KEYWORD_ONLY, default=0),
            inspect.Parameter("image", inspect.Parameter.KEYWORD_ONLY, default=None),
            inspect.Parameter("remote_options", inspect.Parameter.KEYWORD_ONLY, default=None),
            _METADATA,
        ]
    )
    __signature__ = _signature

    def __init__(
        self,
        urlpath: str | os.PathLike[str] = "",
        *,
        storage_options: Mapping[str, Any] | None = None,
        sel: Mapping[str, Any] | None = None,
        arraytype: str = "numpy",
        level: int = 0,
        image: str | None = None,
        remote_options: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **unknown: Unpack[_NoOptions],
    ) -> None:
        for name in unknown:
            raise OptionError.unknown("option", name, self._signature.parameters)
        super().__init__(metadata)
        self.urlpath = urlpath
        self.image = image
        self.remote_options = remote_options or {}
        # the same names in the same spelling as a collection's, text of a template included
        self.options = Options.parse(
            {
                "urlpath": urlpath,
                "storage_options": storage_options,
                "sel": sel,
                "arraytype": arraytype,
                "level": level,
            }
        )
        self.storage_options = self.options.storage_options
        self._copy: ZarrCopy | None = None

    def __getattr__(self, name: str) -> Any:
        if hasattr(TiffStackSource, name) and not hasattr(type(self), name):
            raise AttributeError(
                f"{name!r} is of a source of TIFF files, and this one is of a Zarr copy; use it on "
                "the source that the copy was made of",
                name=name,
                obj=self,
            )
        return object.__getattribute__(self, name)  # raises what Python says of it

    @property
    def copy(self) -> ZarrCopy:
        """The copy as it is stored, opened at the first use."""
        if self._copy is None:
            self._check()
            urlpath = self.options.urlpath
            if not isinstance(urlpath, str):
                raise OptionError(f"a Zarr copy has one urlpath, but got {len(urlpath)} in a list")
            self._copy = open_copy(
                urlpath,
                self.storage_options,
                level=self.options.level,
                image=self.image,
                remote_options=self.remote_options,
                arraytype=self.options.arraytype,
                sel=self.options.sel,
            )
        return self._copy

    def _array(self) -> da.Array:
        return self.copy.array

    def to_xarray(self) -> xr.DataArray:
        """Return the copy with its dims, coordinates and attributes, lazy."""
        self._load_metadata()
        import xarray as xr

        from intake_tiffstack.collection.to_xarray import NOT_ATTRIBUTES

        units = self.copy.attrs.get("coord_units") or {}
        coords = {
            name: (list(dims), values, {"units": units[name]} if name in units else {})
            for name, (dims, values) in self.copy.coords.items()
        }
        return xr.DataArray(
            xr.Variable(self.copy.dims, self._array()),  # as it is, it would name the result
            coords=coords,
            attrs={
                **{k: v for k, v in self.copy.attrs.items() if k not in NOT_ATTRIBUTES},
                **self._own_attributes(),
            },
            name=None if self._entry is None else self.name,
        )

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
        """Forget the copy, so that the next use opens it anew."""
        super().relist()
        self._copy = None
