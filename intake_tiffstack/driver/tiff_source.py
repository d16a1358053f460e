"""The source of a collection of TIFF files."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, Unpack, cast

from intake_tiffstack.collection.report import FROM_FILES
from intake_tiffstack.collection.suggest import INFER, INFERRED
from intake_tiffstack.driver.base import ArraySource
from intake_tiffstack.driver.entries import absolute_urlpath
from intake_tiffstack.driver.zarr_source import TiffStackZarrSource
from intake_tiffstack.export.exportable import Exportable
from intake_tiffstack.export.formats import FORMATS
from intake_tiffstack.export.options import PersistOptions, show_options
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
from intake_tiffstack.stack import TiffStack
from intake_tiffstack.storage.urls import absolute_url

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd
    import xarray as xr
    from ome_types import OME
    from PIL import Image

    from intake_tiffstack.collection.report import Report
    from intake_tiffstack.copies.plan import ExportPlan
    from intake_tiffstack.options import Options

__all__ = ["TiffStackSource"]

_METADATA = inspect.Parameter("metadata", inspect.Parameter.KEYWORD_ONLY, default=None)


class TiffStackSource(Exportable[TiffStackZarrSource, "TiffStackSource"], ArraySource):
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
        copy = choose_copy(self.stack, self.persist_mode)
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

    def _export(
        self, url: str, format: str, attrs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> TiffStackZarrSource | TiffStackSource | ExportPlan:
        """Write a copy, and return a source of it; with ``dry_run`` return the plan alone."""
        # references point to the files, even if there is a persisted copy
        is_reference = format in ("references", "icechunk")
        stack = self.stack if is_reference else self._choose()
        attrs = {**self._own_attributes(), **attrs}
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
        copy = driver(absolute_url(url), **{k: v for k, v in given.items() if v})
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
