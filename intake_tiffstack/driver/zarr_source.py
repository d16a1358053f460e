"""The source of a Zarr copy: of this package, or of any other program."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    TypedDict,
    Unpack,
    cast,
)

import dask
from dask.utils import parse_bytes

from intake_tiffstack.arrays.chunks import choose_block_chunks
from intake_tiffstack.arrays.lazy_array import to_dask_array
from intake_tiffstack.audit import CopyCheck, verify
from intake_tiffstack.collection.metadata_keys import complete_metadata
from intake_tiffstack.copies.open_zarr import ZarrCopy
from intake_tiffstack.copies.record import CopyRecord
from intake_tiffstack.driver.base import ArraySource
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.formats import open_copy, read_copy_record

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
    from PIL import Image


__all__ = ["TiffStackZarrSource"]

_OF_TIFF_FILES = frozenset(
    {
        *("stack", "files", "ome_metadata", "file_metadata", "refresh", "export"),
        *("persist", "repersist", "get_persisted", "unpersist"),
    }
)
"""Attributes of a source of TIFF files that a source of a copy lacks."""


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
        if name in _OF_TIFF_FILES:
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
