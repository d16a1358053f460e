"""The sources themselves: a collection of TIFF files, and a Zarr copy of one."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar

from dask.base import tokenize

from intake_tiffstack.device import get_device, require_device
from intake_tiffstack.driver.base import ArraySource
from intake_tiffstack.errors import FeatureNotAvailableError
from intake_tiffstack.export import ZarrCopy, open_zarr
from intake_tiffstack.options import Options, option_signature
from intake_tiffstack.settings import setting
from intake_tiffstack.stack import TiffStack

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    from intake_tiffstack.report import Report

__all__ = ["TiffStackSource", "TiffStackZarrSource"]

_METADATA = inspect.Parameter("metadata", inspect.Parameter.KEYWORD_ONLY, default=None)


class _Stacks:
    """The collections opened last in this process, by their options.

    A catalog hands out a new source once its 60 s have passed; the listing should not be taken
    anew with it.
    """

    def __init__(self) -> None:
        self._stacks: OrderedDict[str, TiffStack] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, options: Options) -> TiffStack:
        key = tokenize(options)
        with self._lock:
            stack = self._stacks.setdefault(key, TiffStack(options))
            self._stacks.move_to_end(key)
            while len(self._stacks) > max(1, int(setting("table_cache"))):
                self._stacks.popitem(last=False)
            return stack


_STACKS = _Stacks()


class TiffStackSource(ArraySource):
    """A collection of TIFF files as one lazy, labelled array.

    ``driver: tiffstack`` in a catalog, or ``intake.open_tiffstack(urlpath, ...)``; the options are
    those of :func:`intake_tiffstack.open_stack`.
    """

    name = "tiffstack"
    _signature: ClassVar[inspect.Signature] = option_signature(extra=[_METADATA])
    __signature__ = _signature  # Intake's __new__ hides that of __init__

    def __init__(
        self, urlpath: Any, *, metadata: dict[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(metadata)
        self.options = Options.parse({"urlpath": urlpath, **options})
        self.storage_options = self.options.storage_options
        self._opened: TiffStack | None = None

    @property
    def stack(self) -> TiffStack:
        """The collection without Intake."""
        if self._opened is None:
            self._check()
            if self.persist_mode == "always":
                raise FeatureNotAvailableError(
                    "persist_mode is 'always', but this version has no store of persisted copies; "
                    "export(url) writes one, and an entry with `driver: tiffstack_zarr` opens it"
                )
            self._opened = _STACKS.get(self.options)
        return self._opened

    def _array(self) -> da.Array:
        return self.stack.to_dask()

    def to_xarray(self, chunks: Any = "option") -> xr.DataArray:
        """Return the same pixels with named dims, coords and units.

        Parameters
        ----------
        chunks
            ``"option"`` wraps :meth:`to_dask`; None is lazy without dask.
        """
        self._load_metadata()
        named = self.stack.to_xarray(chunks)
        return named.rename(self.name if self._entry is not None else None)

    def _discovered(self) -> dict[str, Any]:
        return self.stack.metadata

    def report(self) -> Report:
        """Return what was found and what is missing, before any pixel is read."""
        return self.stack.report()

    def relist(self) -> None:
        """Forget the listing, so that the next use sees the files as they are then."""
        super().relist()
        self.stack.relist()  # sources with the same options share it

    def export(self, url: str, *, format: str = "zarr", **options: Any) -> TiffStackZarrSource:
        """Write a copy, and return a source over it.

        Parameters
        ----------
        url
            Where to; a local folder or any fsspec URL. Something there already is an error.
        format, **options
            As :meth:`intake_tiffstack.TiffStack.export` has them.
        """
        self.stack.export(url, format=format, **options)
        copy = TiffStackZarrSource(url, storage_options=options.get("storage_options") or {})
        copy.description = self.description
        return copy

    def persist(self, ttl: float | None = None, **options: Any) -> Any:
        """Not in this version: use :meth:`export` and an entry for the copy."""
        raise FeatureNotAvailableError(
            "persist() is not in this version; export(url) writes a Zarr copy, which "
            "`driver: tiffstack_zarr` opens"
        )

    def get_persisted(self) -> Any:
        """Not in this version: there is no store of persisted copies."""
        raise FeatureNotAvailableError("there is no store of persisted copies in this version")


class TiffStackZarrSource(ArraySource):
    """A Zarr copy that this package wrote, or any Zarr array with dims.

    ``driver: tiffstack_zarr`` in a catalog, or ``intake.open_tiffstack_zarr(urlpath)``.

    Parameters
    ----------
    urlpath
        The folder of the Zarr array, local or any fsspec URL.
    storage_options
        Handed to fsspec.
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
            inspect.Parameter("arraytype", inspect.Parameter.KEYWORD_ONLY, default="numpy"),
            _METADATA,
        ]
    )
    __signature__ = _signature

    def __init__(
        self,
        urlpath: str,
        *,
        storage_options: dict[str, Any] | None = None,
        arraytype: str = "numpy",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(metadata)
        self.urlpath = urlpath
        self.storage_options = storage_options or {}
        self.arraytype = arraytype
        self._copy: ZarrCopy | None = None

    @property
    def copy(self) -> ZarrCopy:
        """The copy as it is stored, opened at the first use."""
        if self._copy is None:
            self._check()
            self._copy = open_zarr(self.urlpath, self.storage_options)
        return self._copy

    def _array(self) -> da.Array:
        array = self.copy.array
        if self.arraytype == "numpy":
            return array
        meta = require_device(self.arraytype, array.ndim, array.dtype)
        return array.map_blocks(_to_device, self.arraytype, dtype=array.dtype, meta=meta)

    def to_xarray(self) -> xr.DataArray:
        """Return the copy with its dims, coordinates and attributes, lazy."""
        self._load_metadata()
        import xarray as xr

        units = self.copy.attrs.get("units") or {}
        coords = {
            name: (list(dims), values, {"units": units[name]} if name in units else {})
            for name, (dims, values) in self.copy.coords.items()
        }
        return xr.DataArray(
            self._array(),
            dims=list(self.copy.dims),
            coords=coords,
            attrs=dict(self.copy.attrs),
            name=None if self._entry is None else self.name,
        )

    def _discovered(self) -> dict[str, Any]:
        return dict(self.copy.attrs)

    def relist(self) -> None:
        """Forget the copy, so that the next use opens it anew."""
        super().relist()
        self._copy = None


def _to_device(block: Any, arraytype: str) -> Any:
    return get_device(arraytype).to_device(block)
