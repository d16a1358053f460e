"""A collection of TIFF files as one lazy array: the way in without Intake.

:func:`open_stack` composes all rooms below; the Intake driver is thin over the same
:class:`TiffStack`.
"""

from __future__ import annotations

import inspect
import threading
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from intake_tiffstack.array import StackArray, to_dask_array
from intake_tiffstack.collection import Collection, open_collection, survey
from intake_tiffstack.errors import (
    FeatureNotAvailableError,
    LayoutError,
    OptionError,
    TiffStackError,
)
from intake_tiffstack.options import Options, option_docs, option_signature
from intake_tiffstack.redact import mask_secrets
from intake_tiffstack.report import Report

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["TiffStack", "open_stack"]


def open_stack(urlpath: Any, **options: Any) -> TiffStack:
    """Return a collection of TIFF files that opens as one lazy array."""
    return TiffStack(Options.parse({"urlpath": urlpath, **options}))


open_stack.__signature__ = option_signature()  # type: ignore[attr-defined]
open_stack.__doc__ = f"""Return a collection of TIFF files that opens as one lazy array.

No I/O happens here: files are listed and a few headers read at the first use, pixels only when the
array is computed.

{option_docs()}

Returns
-------
TiffStack
    With ``to_dask()``, ``to_xarray()``, ``read()``, ``report()``, ``metadata`` and ``relist()``.

Raises
------
OptionError
    An option that is unknown or has a wrong value.

Examples
--------
>>> stack = open_stack("raw/*.tif", pattern="scan_ch{{c:d}}_t{{t:d}}.tif", file_dims="zyx")
>>> stack.to_dask()  # doctest: +SKIP
"""


class TiffStack:
    """A collection of TIFF files, listed at first use and kept until :meth:`relist`.

    Parameters
    ----------
    options
        All that describes the collection; :func:`open_stack` makes it from keywords.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._collection: Collection | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        if self._collection is None:
            where = mask_secrets(self.options.urlpath)
            if isinstance(where, list):
                where = f"{len(where)} urlpaths"
            return f"<TiffStack {where}, not opened yet>"
        layout = self._collection.layout
        sizes = ", ".join(f"{d.name}: {d.size}" for d in layout.dims)
        return f"<TiffStack ({sizes}) {layout.dtype}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (TiffStack, (self.options,))

    @property
    def collection(self) -> Collection:
        """The opened collection; opened at the first use."""
        with self._lock:
            if self._collection is None:
                self._collection = open_collection(self.options)
            return self._collection

    def relist(self) -> None:
        """Forget the listing, so that the next use sees the files as they are then."""
        with self._lock:
            self._collection = None

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dims, outermost first."""
        return self.collection.layout.names

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""
        return self.collection.layout.shape

    @property
    def sizes(self) -> dict[str, int]:
        """Extent of each dim, by name."""
        return dict(zip(self.dims, self.shape, strict=True))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel, native byte order."""
        return self.collection.layout.dtype

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known of the pixels: plain values, see ``docs/metadata.md`` for the keys.

        A copy, to change at will.
        """
        return deepcopy(self.collection.metadata)

    def to_dask(self) -> da.Array:
        """Return the stitched array, lazy; no pixel is read.

        Returns
        -------
        dask.array.Array
            Dims as :attr:`dims`, chunks as the option ``chunks`` has them, each chunk an array of
            the kind ``arraytype`` names.
        """
        collection = self.collection
        return to_dask_array(collection.array, collection.chunks)

    def to_xarray(self, chunks: Literal["option"] | None = "option") -> xr.DataArray:
        """Return the same pixels with named dims, coordinates and attributes, lazy.

        Parameters
        ----------
        chunks
            ``"option"`` wraps :meth:`to_dask`. None goes without dask: chained indexes, transposes
            and steps are put together and read at once, at the first look at values.
        """
        from intake_tiffstack.labelled import to_dataarray

        if chunks == "option":
            return to_dataarray(self.collection, self.to_dask())
        if chunks is None:
            return to_dataarray(self.collection, None)
        raise OptionError(
            f"chunks must be 'option' or None here, but got {chunks!r}; give another chunk shape "
            "as an option of the source"
        )

    def read(self) -> NDArray[Any]:
        """Return all pixels in memory, as a NumPy array or what ``arraytype`` names."""
        pixels: NDArray[Any] = self.to_dask().compute()
        return pixels

    def to_host_dask(self) -> da.Array:
        """Return the array with NumPy chunks whatever ``arraytype`` is; needs no device."""
        array, options = self.collection.array, self.collection.array.options
        on_host = StackArray(array.files, array.layout, replace(options, arraytype="numpy"))
        return to_dask_array(on_host, self.collection.chunks)

    def report(self) -> Report:
        """Return what was found and what is missing; headers are read, no pixel is."""
        try:
            collection = self.collection
        except (LayoutError, OSError) as exc:
            found = survey(self.options)
            if not found.problems and isinstance(exc, TiffStackError):
                raise
            return Report(found, {})
        return Report(collection.survey, collection.metadata["provenance"])

    def export(self, url: str, *, format: str = "zarr", **options: Any) -> None:
        """Write a copy of the collection.

        Parameters
        ----------
        url
            Where to; a local folder or any fsspec URL. Something there already is an error.
        format
            ``"zarr"``: one array at the root, see ``docs/export.md``.
        **options
            As :func:`intake_tiffstack.export.write_zarr` has them: ``storage_options``,
            ``zarr_format``, ``chunks``, ``shards``, ``compressor``, ``progress``.

        Raises
        ------
        FeatureNotAvailableError
            A format that this version does not write.
        OptionError
            The source fills what it cannot read (``on_error``): a copy would hide it for good.
        """
        from intake_tiffstack.export import write_zarr

        if format != "zarr":
            raise FeatureNotAvailableError(
                f"format={format!r} is not in this version; 'zarr' writes one Zarr array"
            )
        if self.options.on_error != "raise":
            raise OptionError(
                "a source with on_error='fill' is not exported: the copy would hide what could "
                "not be read; leave such files out with `exclude` or `sel`"
            )
        known = set(inspect.signature(write_zarr).parameters) - _OURS
        for name in options:
            if name not in known:
                raise OptionError.unknown("option of export()", name, known)
        named = self.to_xarray(chunks=None)
        told = {k: v for k, v in self.metadata.items() if v and k not in _OF_THE_ARRAY}
        write_zarr(
            self.to_host_dask(),
            url,
            dims=self.dims,
            coords={str(k): (tuple(map(str, c.dims)), c.values) for k, c in named.coords.items()},
            attrs={**told, "source": mask_secrets(self.options.urlpath)},
            **options,
        )


_OURS = frozenset({"array", "url", "dims", "coords", "attrs"})
"""Parameters of the writer that the collection itself gives."""

_OF_THE_ARRAY = frozenset({"dims", "shape", "dtype", "coords"})
"""Keys of the metadata that a Zarr array keeps as its own."""
