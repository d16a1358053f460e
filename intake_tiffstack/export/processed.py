"""Writes an array that was computed from a source, with what it keeps of its meaning."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.array_source import source_of
from intake_tiffstack.export.formats import find_writer
from intake_tiffstack.export.inherited import inherit
from intake_tiffstack.export.options import OPTIONS, check_options
from intake_tiffstack.redact import mask_secrets
from intake_tiffstack.storage.urls import absolute_url
from intake_tiffstack.to_json import to_json

if TYPE_CHECKING:
    import xarray as xr

    from intake_tiffstack.copies.plan import ExportPlan

__all__ = ["Like", "export_array"]

_OF_FILES = ("append", "sha256")
"""Options that need the files of a collection."""


class Like(Protocol):
    """A source: a TiffStack, TiffStackSource or TiffStackZarrSource."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is known of its pixels."""

    def to_xarray(self, chunks: None = None) -> xr.DataArray:
        """Return it as a DataArray."""


def export_array(
    array: Any,
    url: str | os.PathLike[str],
    *,
    like: Like | None = None,
    format: str = "zarr",
    dims: Sequence[str] | None = None,
    attrs: Mapping[str, Any] | None = None,
    labels: str | None = None,
    **options: Any,
) -> ExportPlan:
    """Write an array that was computed from a source, or with ``dry_run=True`` only plan it.

    Dims, coordinates, calibration, channels and what else does not depend on the pixels come from
    the array if it is a DataArray, and from *like*. Runs, resumes and verifies as the ``export`` of
    a source does; the array is computed block by block.

    Parameters
    ----------
    array : xarray.DataArray, dask.array.Array or array-like
        Of numbers.
    url : str or path-like
        See :meth:`~intake_tiffstack.TiffStack.export`. With *labels*, an existing OME-Zarr image.
    like : TiffStack, TiffStackSource or TiffStackZarrSource, optional
        What the array was made from; it is named in the attribute ``made_from``.
    format : {"zarr", "ome-zarr", "ome-tiff"}
        As a source has them.
    dims : sequence of str, optional
        Names of the dims of an array that has none; None for those of *like*.
    attrs : mapping of str, optional
        Stored with the pixels as JSON; overrides what comes from *like*.
    labels : str, optional
        Write integers as labels of this name below ``labels/`` of the OME-Zarr image at *url*, with
        as many levels as it has.
    **options
        Of the format, see :meth:`~intake_tiffstack.TiffStack.export`.

    Returns
    -------
    ExportPlan
        What was written, or would be.

    Raises
    ------
    OptionError
        If an option is unknown, the dims have no names, or labels do not fit their image.
    TargetExistsError, VerificationError, StorageError
        See :meth:`~intake_tiffstack.TiffStack.export`.

    Examples
    --------
    >>> import intake_tiffstack
    >>> stack = intake_tiffstack.open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
    >>> projection = stack.to_xarray().max("z")
    >>> plan = intake_tiffstack.export(projection, "projection.zarr", like=stack)
    """
    if labels is not None:
        if format not in ("ome-zarr", "zarr"):
            raise OptionError(f"labels are part of an OME-Zarr, but got format={format!r}")
        format = "ome-zarr"
    if format == "references":
        raise OptionError("a computed array has no references: there are no files to refer to")
    write = find_writer(format)
    check_options(OPTIONS[format], options, function="export()")
    for name in _OF_FILES:
        if options.get(name):
            raise OptionError(f"{name} is for a collection of files, not for a computed array")
    if not hasattr(array, "shape") or not hasattr(array, "ndim"):
        raise OptionError(f"array must be a DataArray or an array, but got {type(array).__name__}")
    metadata = {} if like is None else like.metadata
    known = None if like is None else like.to_xarray(chunks=None)
    meaning = inherit(array, dims, known, metadata)
    made_from = {} if like is None else {"made_from": _describe(like, known)}
    source, granule = source_of(array)
    given: dict[str, Any] = {
        "dims": meaning.dims,
        "coords": meaning.coords,
        "attrs": {**meaning.attrs, **made_from, **(attrs or {})},
        "granule": granule,
    }
    if labels is not None:
        from intake_tiffstack.export.ome_zarr.labels import write_labels

        return write_labels(source, url, labels, **given, **options)
    accepted = inspect.signature(write).parameters
    return write(source, url, **{k: v for k, v in given.items() if k in accepted}, **options)


def _describe(like: Like, known: xr.DataArray | None) -> dict[str, Any]:
    """Return what an array was made from, without secrets."""
    options = getattr(like, "options", None)
    urlpath: Any = getattr(options, "urlpath", None)
    if isinstance(urlpath, str | os.PathLike):
        urlpath = absolute_url(os.fspath(urlpath))
    elif urlpath is not None:
        urlpath = [absolute_url(os.fspath(url)) for url in urlpath]
    described = {
        "source": None if urlpath is None else to_json(mask_secrets(urlpath)),
        "sizes": {} if known is None else {str(dim): int(n) for dim, n in known.sizes.items()},
        "dtype": "" if known is None else str(known.dtype),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {key: value for key, value in described.items() if value}
