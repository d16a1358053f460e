"""Intake 2: a data type and its readers, thin over :func:`intake_tiffstack.open_stack`.

Intake imports this module with its own readers, so it imports neither dask nor tifffile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from intake.readers import datatypes, readers

from intake_tiffstack.redact import hide_secrets

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    from intake_tiffstack.stack import TiffStack

__all__ = ["TiffCollection", "TiffCollectionToDask", "TiffCollectionToXarray"]

_SUFFIX = r"\.(?:tiff?|btf|tf8|stk|lsm)"


class TiffCollection(datatypes.TIFF):  # type: ignore[misc]
    """A folder, glob, list or pattern of TIFF files, which form one array.

    Parameters
    ----------
    url : str or list of str
        As the option ``urlpath``.
    storage_options : dict, optional
        Passed to fsspec.
    metadata : dict, optional
        Of the entry.

    Examples
    --------
    >>> data = TiffCollection("raw/*.tif")
    >>> data.to_reader("xarray", pattern="lattice").read().dims
    ('t', 'c', 'z', 'y', 'x')
    """

    # a folder is recognized by what it contains, a glob or pattern by its signs
    filepattern = rf"^.*[*?\[{{].*{_SUFFIX}\*?$"
    contains: ClassVar[set[str]] = {rf"(?i:{_SUFFIX})$"}
    mimetypes = ""
    magic: ClassVar[set[bytes]] = set()

    def __repr__(self) -> str:
        """Return what was given, without values of storage options that may be secrets."""
        given = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return f"{type(self).__name__}, {hide_secrets(given)}"


class _TiffCollectionReader(readers.BaseReader):  # type: ignore[misc]
    """Opens the collection; ``kwargs`` are the options of ``open_stack``."""

    imports: ClassVar[set[str]] = {"tifffile", "dask"}
    func = "intake_tiffstack:open_stack"

    def _open(self, data: datatypes.FileData, options: dict[str, Any]) -> TiffStack:
        from intake_tiffstack.stack import open_stack

        options.pop("output_instance", None)
        return open_stack(data.url, **{"storage_options": data.storage_options, **options})


class TiffCollectionToDask(_TiffCollectionReader):
    """One lazy dask array of TIFF files."""

    implements: ClassVar[set[type]] = {TiffCollection, datatypes.TIFF}
    output_instance = "dask.array:Array"

    def _read(self, data: datatypes.FileData, **options: Any) -> da.Array:
        return self._open(data, options).to_dask()


class TiffCollectionToXarray(_TiffCollectionReader):
    """One lazy, labelled xarray.DataArray of TIFF files."""

    implements: ClassVar[set[type]] = {TiffCollection}
    imports: ClassVar[set[str]] = {"tifffile", "dask", "xarray"}
    output_instance = "xarray:DataArray"

    def _read(self, data: datatypes.FileData, **options: Any) -> xr.DataArray:
        return self._open(data, options).to_xarray()
