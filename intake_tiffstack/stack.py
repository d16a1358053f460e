"""A collection of TIFF files as one lazy array: the way in without Intake.

:func:`open_stack` composes all rooms below; the Intake driver is thin over the same
:class:`TiffStack`.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from intake_tiffstack.arrays.lazy_array import to_dask_array
from intake_tiffstack.arrays.stack_array import StackArray
from intake_tiffstack.collection.describe_files import parse_ome, read_all_of_file
from intake_tiffstack.collection.examination import Examination
from intake_tiffstack.collection.metadata_keys import PhysicalPixelSizes, physical_pixel_sizes
from intake_tiffstack.collection.open import Collection, open_collection
from intake_tiffstack.collection.report import Report, html_table, summarize, tabulate_files
from intake_tiffstack.errors import FilesNotFoundError, LayoutError, OptionError
from intake_tiffstack.export.options import (
    OPTIONS,
    OmeZarrExportOptions,
    ReferencesExportOptions,
    ZarrExportOptions,
    check_options,
    show_options,
)
from intake_tiffstack.options import (
    OptionKeywords,
    Options,
    UrlPath,
    option_docs,
    option_signature,
)
from intake_tiffstack.redact import mask_secrets
from intake_tiffstack.storage.urls import first_relative

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np
    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray
    from ome_types import OME
    from xarray.core.coordinates import DataArrayCoordinates

    from intake_tiffstack.header import Structure
    from intake_tiffstack.storage.files import File

__all__ = ["TiffStack", "open_stack"]


def open_stack(urlpath: UrlPath, **options: Unpack[OptionKeywords]) -> TiffStack:
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
        self._failed: Examination | None = None  # of an opening that failed, for a report
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

    def _repr_html_(self) -> str:
        if self._collection is None:
            return html_table([("TiffStack", repr(self))])
        return html_table(summarize(self._collection))

    def __reduce__(self) -> tuple[Any, ...]:
        return (TiffStack, (self.options,))

    @property
    def collection(self) -> Collection:
        """The opened collection; opened at the first use."""
        with self._lock:
            if self._collection is None:
                self._collection = self._open()
            return self._collection

    def _open(self) -> Collection:
        examination = Examination(self.options)
        try:
            return open_collection(examination)
        except FilesNotFoundError as exc:
            url = first_relative(self.options.urlpath)
            if url is None:
                raise
            raise FilesNotFoundError(
                f"{exc.message}; {url!r} is relative to the current folder; in a catalog write "
                f"{{{{ CATALOG_DIR }}}}/{url.removeprefix('./')}",
                **exc.details,
            ) from exc
        except (LayoutError, OSError):
            self._failed = examination
            raise

    def relist(self) -> None:
        """Forget the listing, so that the next use sees the files as they are then."""
        with self._lock:
            self._collection = self._failed = None

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
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Extents of the chunks along each dim, as dask has them."""
        return self.collection.chunks

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known of the pixels: plain values, see ``docs/metadata.md`` for the keys.

        A copy, to change at will.
        """
        return deepcopy(self.collection.metadata)

    @property
    def coords(self) -> DataArrayCoordinates[Any]:
        """Coordinates of all kinds, as :meth:`to_xarray` has them."""
        return self.to_xarray(chunks=None).coords

    @property
    def channel_names(self) -> list[str] | None:
        """A name for each channel, ``""`` for one without; None where none is known."""
        names: list[str] | None = self.metadata["channel_names"]
        return names

    @property
    def scale(self) -> dict[str, float]:
        """Distance from one position to the next by dim, only where it is known."""
        steps: dict[str, float] = self.metadata["scale"]
        return steps

    @property
    def time_interval(self) -> float | None:
        """Seconds from one time point to the next, None where they are not known."""
        seconds: float | None = self.metadata["time_interval"]
        return seconds

    @property
    def physical_pixel_sizes(self) -> PhysicalPixelSizes:
        """Extent of a pixel along Z, Y and X in micrometre, None where it is not known."""
        return physical_pixel_sizes(self.collection.metadata)

    @property
    def files(self) -> pd.DataFrame:
        """All files that take part: ``url``, ``size``, ``cell`` and the fields of their names.

        ``cell`` is the place on the grid, one index an axis, None for a file that is left out.
        """
        return tabulate_files(self.collection.examination)

    @property
    def ome_metadata(self) -> OME | None:
        """All of the OME-XML of the first file on the grid, None where it has none.

        Of another file ``file_metadata(i)["raw_ome_xml"]`` is the text.

        Raises
        ------
        ImportError
            ome-types is not installed; the extra ``ome`` has it.
        UnreadableFileError
            The XML is broken or declares entities.
        """
        file, _ = self._file(self.collection.template)
        return parse_ome(file, self.options.storage_options)

    def file_metadata(self, which: int | str = 0) -> dict[str, Any]:
        """Return all that one file says of its pixels; its header is read, no pixel is.

        Parameters
        ----------
        which
            Row in :attr:`files`, a URL in it, or the end of one after a ``/``.

        Returns
        -------
        dict
            What is understood (``scale``, ``units``, ``channel_names``, ``times`` ..., with
            ``provenance`` and ``warnings``) and what stands in the file (``raw_ome_xml``,
            ``raw_imagej`` ...), as JSON can hold it; see ``docs/metadata.md``.

        Raises
        ------
        OptionError
            There is no such file.
        """
        urls = self.collection.files.urls
        if isinstance(which, str):
            named = [row for row, url in enumerate(urls) if url == which]
            named = named or [row for row, url in enumerate(urls) if url.endswith(f"/{which}")]
            if len(named) != 1:
                raise OptionError.unknown("file", which, urls[:8])
            which = named[0]
        if not -len(urls) <= which < len(urls):
            raise OptionError(f"file {which} of {len(urls):,}: rows count from 0")
        file, structure = self._file(which % len(urls))
        return read_all_of_file(
            file,
            structure,
            storage_options=self.options.storage_options,
            series=self.options.series,
        )

    def _file(self, row: int) -> tuple[File, Structure]:
        """Return a file and its structure as the options name its dims."""
        collection = self.collection
        structures = collection.discovery.structures
        structure = structures.get(row, structures[collection.template])
        return collection.files[row], structure

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
        from intake_tiffstack.collection.to_xarray import to_dataarray

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

    @property
    def host_array(self) -> StackArray:
        """The array that reads into host memory whatever ``arraytype`` is; needs no device."""
        array, options = self.collection.array, self.collection.array.options
        return StackArray(array.files, array.layout, replace(options, arraytype="numpy"))

    def report(self) -> Report:
        """Return what was found and what is missing; headers are read, no pixel is."""
        examination = self._take_failed()
        if examination is None:
            try:
                collection = self.collection
            except (LayoutError, OSError):
                examination = self._take_failed()
                if examination is None or not examination.complete().problems:
                    raise
            else:
                return Report(
                    collection.examination,
                    provenance=collection.metadata["provenance"],
                    described=len(collection.discovery.described),
                )
        elif not examination.complete().problems:
            return self.report()  # what failed was none of these steps: open again, and raise
        return Report(examination)

    def _take_failed(self) -> Examination | None:
        """Return the examination of an opening that failed; only the first caller gets it."""
        with self._lock:
            examination, self._failed = self._failed, None
            return examination

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["zarr"] = "zarr",
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[ZarrExportOptions],
    ) -> None: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["ome-zarr"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[OmeZarrExportOptions],
    ) -> None: ...

    @overload
    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: Literal["references"],
        attrs: Mapping[str, Any] | None = None,
        **options: Unpack[ReferencesExportOptions],
    ) -> None: ...

    def export(
        self,
        url: str | os.PathLike[str],
        *,
        format: str = "zarr",
        attrs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Write a copy of the collection.

        Parameters
        ----------
        url : str or path-like
            A local folder or any fsspec URL. Something there already is an error, unless
            ``overwrite=True``.
        format : {"zarr", "ome-zarr", "references"}
            ``"zarr"``: one array at the root, see ``docs/export.md``; ``"ome-zarr"``: pyramids
            that viewers open, see ``docs/ome-zarr.md``; ``"references"``: a document by which the
            files themselves are read as a Zarr, see ``docs/references.md``.
        attrs : mapping, optional
            Stored with the pixels as JSON; overrides the metadata of the files.
        **options
            Of all formats:

            - ``storage_options``: for fsspec, of the copy
            - ``overwrite``: whether an existing copy is replaced; default False
            - ``verify``: ``"sample"``, ``"all"`` or False: what is read back and compared
            - ``progress``: True, False, a function of bytes done and bytes in all, or None: a bar
              on a terminal and in a notebook

            Of ``"zarr"`` and ``"ome-zarr"``:

            - ``zarr_format``: 3 or 2
            - ``chunks``, ``shards``: shape of a chunk and of a shard; None chooses, without shards
            - ``compressor``: ``"default"``, None, or a codec of zarr or numcodecs
            - ``resume``: whether to continue an attempt that ended early; default True

            Of ``"ome-zarr"``:

            - ``version``: ``"0.5"`` or ``"0.4"``
            - ``name``: of the image or plate; None for the name of the folder
            - ``sel``: {dim: value} to export
            - ``levels``: ``"auto"``, ``"source"``, a number, or factors by axis
            - ``downsample``: ``"mean"``, ``"nearest"``, or ``"mode"`` for labels
            - ``colors``: such as ``"00FF00"``, for each channel or by its name
            - ``windows``: [darkest, brightest] for each channel or by its name

        Raises
        ------
        OptionError
            If the format, an option or its value is unknown, or the source fills what it cannot
            read (``on_error``): a copy would hide that for good.
        """
        from intake_tiffstack.export.formats import find_writer

        write = find_writer(format)
        if self.options.on_error != "raise":
            raise OptionError(
                "a source with on_error='fill' is not exported: the copy would hide what could "
                "not be read; leave such files out with `exclude` or `sel`"
            )
        check_options(OPTIONS[format], options, function="export()")
        named = self.to_xarray(chunks=None)
        told = {k: v for k, v in self.metadata.items() if v and k not in _OF_THE_ARRAY}
        given = {
            "dims": self.dims,
            "coords": {
                str(k): (tuple(map(str, c.dims)), c.values) for k, c in named.coords.items()
            },
            "attrs": {**told, "source": mask_secrets(self.options.urlpath), **(attrs or {})},
            "granule": self.collection.granule,
            "present": self.collection.layout.present(),
            "pyramid": self._levels() if options.get("levels") == "source" else (),
        }
        accepted = inspect.signature(write).parameters
        given = {name: value for name, value in given.items() if name in accepted}
        write(self.host_array, url, **given, **options)

    def _levels(self) -> tuple[StackArray, ...]:
        """Return the array at each further level of the pyramid that the files hold."""
        alike = replace(self.options, chunks="auto", coords={}, sizes={})
        found: list[StackArray] = []
        while True:
            try:
                stack = TiffStack(replace(alike, level=self.options.level + len(found) + 1))
                found.append(stack.host_array)
            except OptionError:  # there is no such level
                return tuple(found)


show_options(TiffStack.export, *OPTIONS.values())

_OF_THE_ARRAY = frozenset({"dims", "shape", "dtype", "coords"})
"""Keys of the metadata that a Zarr array keeps as its own."""
