"""``export()``: the same method of a collection and of a source, which return different things."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, overload

from intake_tiffstack.export.options import (
    OPTIONS,
    IcechunkExportOptions,
    OmeTiffExportOptions,
    OmeZarrExportOptions,
    ReferencesExportOptions,
    ZarrExportOptions,
    show_options,
)

if TYPE_CHECKING:
    from intake_tiffstack.copies.plan import ExportPlan

__all__ = ["Exportable"]

OfZarr = TypeVar("OfZarr")
"""What the export of a Zarr copy returns."""

OfTiff = TypeVar("OfTiff")
"""What the export of an OME-TIFF returns."""


class Exportable(Generic[OfZarr, OfTiff]):
    """A collection that can be exported; a subclass implements :meth:`_export`."""

    def _export(
        self, url: str, format: str, attrs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> OfZarr | OfTiff | ExportPlan:
        """Write or plan a copy."""
        raise NotImplementedError

    @overload
    def export(
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
    ) -> OfZarr: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["ome-zarr"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[OmeZarrExportOptions],
    ) -> OfZarr: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["ome-tiff"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[OmeTiffExportOptions],
    ) -> OfTiff: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["references"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[ReferencesExportOptions],
    ) -> OfZarr: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["icechunk"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[IcechunkExportOptions],
    ) -> OfZarr: ...

    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: str = "zarr",
        attrs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> OfZarr | OfTiff | ExportPlan:
        """Write a copy of the array, or with ``dry_run=True`` only plan it.

        Parameters
        ----------
        url : str or path-like
            A local folder or any fsspec URL. Something there already is an error, unless
            ``overwrite=True``.
        format : {"zarr", "ome-zarr", "ome-tiff", "references", "icechunk"}
            ``"zarr"``: one array at the root, see ``docs/export.md``; ``"ome-zarr"``: pyramids
            that viewers open, see ``docs/ome-zarr.md``; ``"ome-tiff"``: the same in one file, see
            ``docs/ome-tiff.md``; ``"references"``: a document by which the files themselves are
            read as a Zarr, and ``"icechunk"`` the same in a repository, see ``docs/references.md``.
        attrs : mapping, optional
            Stored with the pixels as JSON; overrides the metadata of the files.
        **options
            Of all formats:

            - ``storage_options``: for fsspec, of the copy
            - ``dry_run``: whether only the plan is returned and nothing is written; default False
            - ``overwrite``: whether an existing copy is replaced; default False
            - ``verify``: ``"sample"``, ``"all"`` or False: what is read back and compared
            - ``sha256``: whether the audit record holds the SHA-256 of each file; default False
            - ``progress``: True, False, a function of bytes done and bytes in all, or None: a bar
              on a terminal and in a notebook

            Of ``"zarr"``:

            - ``group``: whether to write a group that ``xarray.open_zarr`` opens, with the
              coordinates as arrays, instead of one array; default False

            Of ``"zarr"`` and ``"ome-zarr"``:

            - ``append``: dim along which an existing copy is extended by what has arrived
            - ``zarr_format``: 3 or 2
            - ``chunks``: shape of a chunk; None chooses 1 to 4 MB
            - ``shards``: shape of a shard; ``"auto"`` only for large copies; None for none
            - ``compressor``: ``"default"``, None, or a codec of zarr or numcodecs
            - ``resume``: whether to continue an attempt that ended early; default True

            Of ``"ome-zarr"`` and ``"ome-tiff"``:

            - ``name``: of the image or plate; None for the name of the folder or file
            - ``sel``: {dim: value} to export
            - ``levels``: ``"auto"``, ``"source"``, a number, or factors by axis
            - ``downsample``: ``"mean"``, ``"nearest"``, or ``"mode"`` for labels

            Of ``"ome-tiff"``:

            - ``tile``: height and width of a tile, multiples of 16; default 512
            - ``compression``: ``"zlib"``, ``"lzw"``, ``"zstd"`` or None

            Of ``"icechunk"``:

            - ``append``: as above
            - ``ome``: whether to write an OME-Zarr of one level; default False

            Of ``"ome-zarr"``:

            - ``version``: ``"0.5"``, ``"0.4"`` or ``"0.6"``
            - ``colors``: such as ``"00FF00"``, for each channel or by its name
            - ``windows``: [darkest, brightest] for each channel or by its name

        Returns
        -------
        ExportPlan or source
            From a source of Intake, a source that reads the copy. From a :class:`TiffStack`, and
            with ``dry_run=True``, what was or would be written: objects, bytes, chunks, shards,
            memory; see :class:`~intake_tiffstack.copies.plan.ExportPlan`.

        Raises
        ------
        OptionError
            If the format, an option or its value is unknown, or the source fills what it cannot
            read (``on_error``): a copy would hide that for good.

        Examples
        --------
        >>> from intake_tiffstack import open_stack
        >>> stack = open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
        >>> plan = stack.export("scan.zarr")
        >>> import dask.array as da
        >>> bool((da.from_zarr("scan.zarr") == stack.to_dask()).all())
        True
        """
        return self._export(os.fspath(url), format, attrs or {}, options)


show_options(Exportable.export, *OPTIONS.values())
