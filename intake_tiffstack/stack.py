"""A collection of TIFF files as one lazy array, without Intake.

The Intake driver is a thin layer over the same :class:`TiffStack`.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, Unpack

from intake_tiffstack.arrays.lazy_array import LazyArray, to_dask_array
from intake_tiffstack.collection.describe_files import parse_ome, read_all_of_file
from intake_tiffstack.collection.examination import Examination
from intake_tiffstack.collection.metadata_keys import PhysicalPixelSizes, physical_pixel_sizes
from intake_tiffstack.collection.open import Collection, open_collection
from intake_tiffstack.collection.plate import wanted_sidecar
from intake_tiffstack.collection.report import (
    Report,
    array_html,
    html_table,
    rows_in_order,
    summarize,
    tabulate_files,
)
from intake_tiffstack.collection.suggest import INFER, infer_options
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import FilesNotFoundError, LayoutError, OptionError, warn
from intake_tiffstack.export.exportable import Exportable
from intake_tiffstack.export.options import OPTIONS, check_options
from intake_tiffstack.labelled.attributes import has_value
from intake_tiffstack.options import (
    OptionKeywords,
    Options,
    UrlPath,
    option_docs,
    option_signature,
)
from intake_tiffstack.redact import hide_in_text, mask_secrets
from intake_tiffstack.storage.urls import first_relative

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np
    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray
    from ome_types import OME
    from PIL import Image
    from xarray.core.coordinates import DataArrayCoordinates
    from xarray.plot.accessor import DataArrayPlotAccessor

    from intake_tiffstack.copies.plan import ExportPlan
    from intake_tiffstack.header import Structure
    from intake_tiffstack.storage.files import File

__all__ = ["TiffStack", "open_stack"]


def open_stack(urlpath: UrlPath, **options: Unpack[OptionKeywords]) -> TiffStack:
    """Return a collection of TIFF files that opens as one lazy array."""
    return TiffStack(Options.parse({"urlpath": urlpath, **options}))


open_stack.__signature__ = option_signature()  # type: ignore[attr-defined]
open_stack.__doc__ = f"""Return a collection of TIFF files that opens as one lazy array.

No I/O happens here: files are listed and headers read at first use, pixels only when the array is
computed.

{option_docs()}

Returns
-------
TiffStack
    Has ``to_dask()``, ``to_xarray()``, ``read()``, ``report()``, ``export()``, ``metadata`` and
    ``relist()``.

Raises
------
OptionError
    If an option is unknown or its value is not accepted.

Examples
--------
>>> stack = open_stack("raw/*.tif", pattern="{{}}_ch{{c:d}}_{{}}_stack{{t:d}}_{{}}.tif")
>>> stack.to_dask().shape
(3, 2, 8, 64, 48)
"""


class TiffStack(Exportable["ExportPlan", "ExportPlan"]):
    """A collection of TIFF files, listed at first use and kept until :meth:`relist`.

    Parameters
    ----------
    options : Options
        What describes the collection; :func:`open_stack` makes it from keywords.

    Examples
    --------
    >>> stack = open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
    >>> stack.sizes
    {'c': 2, 't': 3, 'z': 8, 'y': 64, 'x': 48}
    >>> stack.scale["z"], stack.metadata["units"]["z"], stack.time_interval
    (0.3, 'micrometer', 2.5)
    >>> stack.files.loc[0, ["c", "t", "wavelength"]].to_dict()
    {'c': 0, 't': 0, 'wavelength': 488}
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._collection: Collection | None = None
        self._failed: Examination | None = None  # of an opening that failed, for a report
        self._is_hinted = False
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
        shown = array_html("TiffStack", self.dims, self.to_dask())
        return shown + html_table(summarize(self._collection))

    def __reduce__(self) -> tuple[Any, ...]:
        return (TiffStack, (self.options,))

    @property
    def collection(self) -> Collection:
        """The collection; opened at first use."""
        with self._lock:
            if self._collection is None:
                self._collection = self._open()
            return self._collection

    def settle(self) -> Options:
        """Return the options with what was found in place of ``"infer"`` and ``layout="auto"``.

        The first call lists the files and prints the pattern that ``pattern="infer"`` takes, see
        ``suggest``; the options stay as they are then. A folder that was opened by the index of a
        plate gets ``layout="sidecar"``, so that an entry means the same without the index.

        Raises
        ------
        PatternError
            If names give no pattern, or two that are equally good.

        Examples
        --------
        >>> stack = open_stack("raw/", pattern="infer")
        >>> stack.settle().pattern  # doctest: +ELLIPSIS
        pattern='infer' takes ...
        'lattice'
        """
        with self._lock:
            options = self._settle()
            opened = self._collection
            index = "" if opened is None else opened.discovery.listing.index
            if index and wanted_sidecar(options) == "auto" and options.urlpath != index:
                return replace(options, layout="sidecar")
            return options

    def _settle(self) -> Options:
        if self.options.pattern == INFER:
            self.options, taken = infer_options(self.options)
            print(f"pattern='infer' takes {taken}")
        return self.options

    def _open(self) -> Collection:
        self._settle()
        examination = Examination(self.options)
        try:
            opened = open_collection(examination)
            self._hint(examination)
            return opened
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

    def _hint(self, examination: Examination) -> None:
        """Warn once if nothing says how to read names that form a grid."""
        proposal = None if self._is_hinted else examination.proposal
        if proposal is not None:
            sizes = " x ".join(f"{n} {name}" for name, n in proposal.sizes.items())
            warn(
                f"{len(examination.found.files):,} files stand in one row along 'file', but their "
                f"names form a grid, {sizes}: add\n  {proposal.to_python()}\n"
                "or pattern='infer'; concat_dim='file' keeps the row"
            )
        self._is_hinted = True

    def refresh(self) -> list[str]:
        """List the files again, and return the URLs of those that are new or changed.

        New files extend the axes. Headers and metadata of files that are as before are kept, and
        an array that :meth:`to_dask` returned earlier stays what it was. If the files do not fit
        together now, such as in the middle of a time point, the collection stays as it was.

        Returns
        -------
        list of str
            In the order of ``files``; all files if the collection was not open.

        Raises
        ------
        TiffStackError
            If the files as they are now do not open; ``missing="trim"`` leaves out a time point
            that is not complete.

        Examples
        --------
        >>> stack = open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
        >>> len(stack.refresh()), stack.refresh()
        (6, [])
        """
        with self._lock:
            before = self._collection
            self._collection = after = self._open()
        known = set() if before is None else set(before.files)
        rows = rows_in_order(after.examination)
        return [after.files.urls[row] for row in rows if after.files[row] not in known]

    def relist(self) -> None:
        """Discard the listing; the next use lists the files again.

        Examples
        --------
        >>> stack = open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
        >>> before = stack.to_dask()
        >>> stack.relist()
        >>> stack.to_dask().name == before.name  # the files are the same
        True
        """
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
        """Data type of the pixels, in native byte order."""
        return self.collection.layout.dtype

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the chunks along each dim, in the form of ``dask.array.Array.chunks``."""
        return self.collection.chunks

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the pixels as plain values; ``docs/metadata.md`` lists the keys.

        A copy, which may be changed.
        """
        return deepcopy(self.collection.metadata)

    @property
    def coords(self) -> DataArrayCoordinates[Any]:
        """All coordinates, as in :meth:`to_xarray`."""
        return self.to_xarray(chunks=None).coords

    @property
    def channel_names(self) -> list[str] | None:
        """Name of each channel, ``""`` if it has none; None if no name is known."""
        names: list[str] | None = self.metadata["channel_names"]
        return names

    @property
    def scale(self) -> dict[str, float]:
        """Spacing by dim, in ``metadata["units"]``; only dims whose spacing is known."""
        steps: dict[str, float] = self.metadata["scale"]
        return steps

    @property
    def time_interval(self) -> float | None:
        """Seconds between time points, None if not known."""
        seconds: float | None = self.metadata["time_interval"]
        return seconds

    @property
    def physical_pixel_sizes(self) -> PhysicalPixelSizes:
        """Size of a pixel along Z, Y and X in micrometres, None where not known."""
        return physical_pixel_sizes(self.collection.metadata)

    @property
    def files(self) -> pd.DataFrame:
        """Table of the files: ``url``, ``size``, ``cell`` and the fields of their names.

        In the order of the array; files that are left out come last.
        ``cell`` is the position on the grid, one index per axis, None for a file that is left out.
        """
        return tabulate_files(self.collection.examination)

    @property
    def ome_metadata(self) -> OME | None:
        """The OME-XML of the first file on the grid, None if it has none.

        ``file_metadata(i)["raw_ome_xml"]`` is the text of any other file.

        Raises
        ------
        ImportError
            If ome-types is not installed; the extra ``ome`` installs it.
        UnreadableFileError
            If the XML is malformed or declares entities.
        """
        file, _ = self._file(self.collection.template)
        return parse_ome(file, self.collection.reader)

    def file_metadata(self, which: int | str = 0) -> dict[str, Any]:
        """Return the metadata of one file; only its header is read.

        Parameters
        ----------
        which : int or str
            Row in :attr:`files`, a URL in it, or the end of a URL after a ``/``.

        Returns
        -------
        dict
            Parsed values (``scale``, ``units``, ``channel_names``, ``times`` ..., with
            ``provenance`` and ``warnings``) and the text in the file (``raw_ome_xml``,
            ``raw_imagej`` ...), all of it valid JSON; see ``docs/metadata.md``.

        Raises
        ------
        OptionError
            If there is no such file.

        Examples
        --------
        >>> stack = open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
        >>> found = stack.file_metadata(0)
        >>> found["scale"]["z"], found["provenance"]["scale.z"]  # doctest: +ELLIPSIS
        (0.3, 'ImageJ of scan_...')
        """
        order = rows_in_order(self.collection.examination)
        urls = [self.collection.files.urls[row] for row in order]
        if isinstance(which, str):
            named = [row for row, url in enumerate(urls) if which in (url, hide_in_text(url))]
            named = named or [row for row, url in enumerate(urls) if url.endswith(f"/{which}")]
            if len(named) != 1:
                raise OptionError.unknown("file", which, map(hide_in_text, urls[:8]))
            which = named[0]
        if not -len(urls) <= which < len(urls):
            raise OptionError(f"file {which} of {len(urls):,}: rows count from 0")
        file, structure = self._file(order[which % len(urls)])
        return read_all_of_file(file, structure, self.collection.reader)

    def _file(self, row: int) -> tuple[File, Structure]:
        """Return a file and its structure, with its dims named by the options."""
        collection = self.collection
        structures = collection.discovery.structures
        structure = structures.get(row, structures[collection.template])
        return collection.files[row], structure

    def to_dask(self) -> da.Array:
        """Return the whole collection as one lazy array; no pixel is read.

        Returns
        -------
        dask.array.Array
            With dims :attr:`dims` and chunks by the option ``chunks``; each chunk is an array of
            type ``arraytype``.

        Examples
        --------
        >>> stack = open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
        >>> stack.to_dask()[0, 1].max().compute().dtype
        dtype('uint16')
        """
        collection = self.collection
        return to_dask_array(collection.array, collection.chunks)

    def to_xarray(self, chunks: Literal["option"] | None = "option") -> xr.DataArray:
        """Return the lazy array with named dims, coordinates and attributes.

        Parameters
        ----------
        chunks : {"option"} or None
            ``"option"`` wraps :meth:`to_dask`. None does without dask: chained indexes, transposes
            and steps are combined and read at once, when values are first accessed.

        Raises
        ------
        OptionError
            If *chunks* is neither.

        Examples
        --------
        >>> stack = open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
        >>> named = stack.to_xarray()
        >>> named.sel(c=1, t=slice(1, 2)).shape, named["wavelength"].values.tolist()
        ((2, 8, 64, 48), [488, 560])
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

    def to_datatree(self, chunks: Literal["option"] | None = "option") -> xr.DataTree:
        """Return the levels of the pyramid in the files, each with its own coordinates.

        Parameters
        ----------
        chunks : {"option"} or None
            See :meth:`to_xarray`.

        Returns
        -------
        xarray.DataTree
            Its nodes ``0``, ``1`` ... have one variable, ``image``; ``0`` is this array, and the
            only node if the files hold no pyramid.

        Examples
        --------
        >>> stack = open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
        >>> list(stack.to_datatree().children)
        ['0']
        """
        from intake_tiffstack.labelled.datatree import label_levels

        return label_levels(stack.to_xarray(chunks) for stack in (self, *self._further_levels()))

    def read(self) -> NDArray[Any]:
        """Return all pixels in memory, as a NumPy array or an array of type ``arraytype``.

        Examples
        --------
        >>> open_stack("raw/*.tif", pattern="lattice", sel={"t": 0}).read().shape
        (1, 2, 8, 64, 48)
        """
        pixels: NDArray[Any] = self.to_dask().compute()
        return pixels

    @property
    def host_array(self) -> LazyArray:
        """The array that reads into host memory whatever ``arraytype`` is; no device is needed."""
        return self.collection.array.on_host()

    @property
    def plot(self) -> DataArrayPlotAccessor:
        """The ``plot`` of :meth:`to_xarray`: xarray's, drawn by Matplotlib."""
        return self.to_xarray().plot

    def preview(
        self, *, percentiles: tuple[float, float] = (0.5, 99.8), width: int = 384
    ) -> Image.Image:
        """Return a picture: middle planes and maximum projections, channels in colour.

        A notebook shows it; ``save("scan.png")`` writes it. At most six time points or positions
        are shown, and of each all planes are read.

        Parameters
        ----------
        percentiles : tuple[float, float]
            What is black and what is full colour, in percent of the pixels of a channel.
        width : int
            Greatest width and height of one image, in pixels of the picture.

        Returns
        -------
        PIL.Image.Image
            RGB.

        Raises
        ------
        OptionError
            If the array has no y and x, or the percentiles do not ascend.

        Examples
        --------
        >>> stack = open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
        >>> stack.preview(width=64).save("scan.png")
        """
        from intake_tiffstack.preview import Drawable, draw_preview

        shown = Drawable(self.host_array, self.dims, self.coords, self.metadata)
        return draw_preview(shown, percentiles=percentiles, width=width)

    def report(self, *, thumbnails: bool = False) -> Report:
        """Return what was found and what is missing; headers are read, no pixels.

        A notebook shows the grid too, with its holes in red.

        Parameters
        ----------
        thumbnails : bool
            Whether to read pixels for a small :meth:`preview` below the report; an error if the
            collection does not open.

        Examples
        --------
        >>> stack = open_stack("raw/*.tif", pattern="lattice", concat_dim=["c", "t"])
        >>> print(stack.report())  # doctest: +ELLIPSIS
        files         6 taking part ...
        """
        report = self._report()
        if not thumbnails:
            return report
        picture = BytesIO()
        self.preview(width=160).save(picture, format="PNG")
        return replace(report, thumbnails=picture.getvalue())

    def _report(self) -> Report:
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
            return self._report()  # another step failed: open again, and raise
        return Report(examination)

    def _take_failed(self) -> Examination | None:
        """Return the examination of an opening that failed; only the first caller gets it."""
        with self._lock:
            examination, self._failed = self._failed, None
            return examination

    def _export(
        self, url: str, format: str, attrs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> ExportPlan:
        """Write a copy, and return what was written; with ``dry_run`` what would be."""
        from intake_tiffstack.export.formats import find_writer
        from intake_tiffstack.export.growth import recorded_options
        from intake_tiffstack.export.origin import find_origin

        write = find_writer(format)
        if self.options.on_error != "raise":
            raise OptionError(
                "a source with on_error='fill' is not exported: the copy would hide what could "
                "not be read; leave such files out with `exclude` or `sel`"
            )
        check_options(OPTIONS[format], options, function="export()")
        if options.get("append") and not options.get("overwrite"):
            kept = recorded_options(url, options.get("storage_options"), format)
            options = {**kept, **options}
        coords = self.collection.known.coords
        known = {k: v for k, v in self.metadata.items() if has_value(v) and k not in _OF_THE_ARRAY}
        given = {
            "dims": self.dims,
            "coords": {name: (coord.dims, coord.values) for name, coord in coords.items()},
            "attrs": {**known, "source": mask_secrets(self.options.urlpath), **attrs},
            "granule": self.collection.granule,
            "present": self.collection.layout.present(),
            "pyramid": [level.host_array for level in self._further_levels()]
            if options.get("levels") == "source"
            else (),
            "origin": find_origin(self.collection, {"format": format, **options}),
        }
        accepted = inspect.signature(write).parameters
        given = {name: value for name, value in given.items() if name in accepted}
        plan: ExportPlan = write(self.host_array, url, **given, **options)
        return plan

    def _further_levels(self) -> tuple[TiffStack, ...]:
        """Return the collection at each further level of the pyramid that the files hold."""
        in_plane = {dim for dim in self.dims if role_of(dim) in (Role.Y, Role.X)}
        alike = replace(
            self.options,
            chunks="auto",
            coords={dim: v for dim, v in self.options.coords.items() if dim not in in_plane},
            sizes={dim: n for dim, n in self.options.sizes.items() if dim not in in_plane},
        )
        found: list[TiffStack] = []
        while True:
            stack = TiffStack(replace(alike, level=self.options.level + len(found) + 1))
            try:
                _ = stack.collection
            except OptionError:  # there is no such level
                return tuple(found)
            found.append(self._calibrated(stack, in_plane))

    def _calibrated(self, level: TiffStack, in_plane: set[str]) -> TiffStack:
        """Return a level of this array, where options give its steps or origins by those."""
        options, steps, starts = level.options, self.scale, self.metadata["translation"]
        given = {*options.scale, *options.translation} & in_plane & {*steps}
        if not given:
            return level
        factors = {dim: self.sizes[dim] / level.sizes[dim] for dim in given}
        centres = {d: starts.get(d, 0.0) + steps[d] * (f - 1) / 2 for d, f in factors.items()}
        return TiffStack(
            replace(
                options,
                scale={**options.scale, **{dim: steps[dim] * f for dim, f in factors.items()}},
                translation={**options.translation, **centres},
            )
        )


_OF_THE_ARRAY = frozenset({"dims", "shape", "dtype", "coords"})
"""Keys of the metadata that a Zarr array stores itself."""
