"""Icechunk repositories: where they are, and which files their virtual chunks may read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from intake_tiffstack.arrays.lazy_array import LazyArray
from intake_tiffstack.copies.attributes import OWN_KEY, decode_coords
from intake_tiffstack.copies.open_zarr import ZarrCopy, ZarrLabels, label_copy
from intake_tiffstack.copies.record import IN_DOCUMENT, CopyRecord
from intake_tiffstack.copies.select import Positions
from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    OptionError,
    StorageError,
)
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.mistaken import refuse_misspelled
from intake_tiffstack.storage.reference_targets import check_targets
from intake_tiffstack.storage.urls import absolute_url, is_local

__all__ = [
    "array_path",
    "container_of",
    "icechunk_errors",
    "icechunk_storage",
    "is_there",
    "open_icechunk",
    "open_repository",
    "read_icechunk_record",
    "require_icechunk",
]


def require_icechunk() -> Any:
    """Return the module icechunk.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import icechunk
    except ImportError as exc:
        raise ImportError(
            "an Icechunk repository needs icechunk and virtualizarr: "
            "pip install 'intake-tiffstack[icechunk]'"
        ) from exc
    return icechunk


@contextmanager
def icechunk_errors(url: str, what: str) -> Iterator[None]:
    """Turn what Icechunk raises inside the block into errors of this package.

    Raises
    ------
    FileChangedError
        If a file is another than the one that the repository refers to.
    StorageError
        If anything else failed.
    """
    icechunk = require_icechunk()
    try:
        yield
    except icechunk.IcechunkError as exc:
        text = hide_in_text(str(exc))
        if "modified" in text.lower() or "checksum" in text.lower():
            raise FileChangedError(
                f"a file that {url} refers to has changed since: {text}", url=url
            ) from exc
        raise StorageError(f"{url} cannot be {what}: {text}", url=url) from exc


def _s3_place(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for s3fs that locate a store, in the form that Icechunk takes."""
    client = options.get("client_kwargs") or {}
    endpoint = options.get("endpoint_url") or client.get("endpoint_url")
    place = {"region": client.get("region_name") or ("us-east-1" if endpoint else None)}
    if endpoint:
        is_plain = endpoint.startswith("http://")
        place |= {"endpoint_url": endpoint, "allow_http": is_plain, "force_path_style": True}
    return place


def _s3_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the credentials in the options for s3fs, in the form that Icechunk takes."""
    if options.get("anon"):
        return {"anonymous": True}
    if options.get("key") is None:
        return {"from_env": True}
    return {
        "access_key_id": options["key"],
        "secret_access_key": options["secret"],
        "session_token": options.get("token"),
    }


def icechunk_storage(url: str, options: Mapping[str, Any]) -> Any:
    """Return Icechunk's storage of a repository.

    Raises
    ------
    OptionError
        If it is neither local nor on S3.
    """
    icechunk = require_icechunk()
    refuse_misspelled(url)
    if is_local(url):
        return icechunk.local_filesystem_storage(absolute_url(url))
    protocol, _, rest = url.partition("://")
    if protocol not in ("s3", "s3a"):
        raise OptionError(
            f"an Icechunk repository is written to a local folder or to s3://, but got {url}"
        )
    bucket, _, prefix = rest.partition("/")
    return icechunk.s3_storage(
        bucket=bucket, prefix=prefix, **_s3_place(options), **_s3_secrets(options)
    )


def is_there(url: str, options: Mapping[str, Any]) -> bool:
    """Return whether there is anything at the URL of a repository.

    Asked before Icechunk: it waits forever for a store that never answers, and panics where a
    local folder must not be read.

    Raises
    ------
    StorageError
        If the store refuses or cannot be reached.
    """
    folder = Folder.at(url, options)
    with folder.read_errors():
        try:
            ask(folder.filesystem, "info", folder.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def container_of(urls: Iterable[str], options: Mapping[str, Any]) -> Any:
    """Return the container of virtual chunks that holds files of these URLs.

    Raises
    ------
    OptionError
        If they are neither local nor in one bucket of S3.
    """
    icechunk = require_icechunk()
    urls = list(urls)
    if urls[0].startswith("file://"):
        paths = [url.removeprefix("file://").rpartition("/")[0] for url in urls]
        folder = paths[0]
        while any(path != folder and not path.startswith(f"{folder}/") for path in paths):
            folder = folder.rpartition("/")[0]
        store = icechunk.local_filesystem_store(folder or "/")
        return icechunk.VirtualChunkContainer(f"file://{folder}/", store)
    homes = {"/".join(url.split("/")[:3]) + "/" for url in urls}
    home = homes.pop()
    if homes or not home.startswith("s3://"):
        raise OptionError(
            "virtual chunks of Icechunk are in local files, or in one bucket of s3://, but got "
            f"files at {', '.join(sorted({home, *homes}))}"
        )
    return icechunk.VirtualChunkContainer(home, icechunk.s3_store(**_s3_place(options)))


def open_repository(url: str, options: Mapping[str, Any], remote_options: Mapping[str, Any]) -> Any:
    """Return a repository that may read the files that its opener allows.

    Raises
    ------
    FilesNotFoundError
        If there is none.
    StorageError
        If its files are elsewhere than the setting ``allow_references`` allows.
    """
    icechunk = require_icechunk()
    storage = icechunk_storage(url, options)
    has_any = is_there(url, options)
    with icechunk_errors(url, "opened"):
        if not has_any or not icechunk.Repository.exists(storage):
            raise FilesNotFoundError(f"{url} holds no Icechunk repository", url=url)
        config = icechunk.Repository.fetch_config(storage)
        prefixes = list((config and config.virtual_chunk_containers) or {})
        folders = (f"{absolute_url(p)}/" if p.startswith("file://") else p for p in prefixes)
        check_targets(url, folders)
        # Icechunk 1 takes None for it
        local = getattr(icechunk.credentials, "LocalFileSystemAccess", None)
        secrets = {
            prefix: icechunk.s3_credentials(**_s3_secrets(remote_options))
            if prefix.startswith("s3")
            else local
            for prefix in prefixes
        }
        allowed = icechunk.containers_credentials(secrets)
        return icechunk.Repository.open(storage, authorize_virtual_chunk_access=allowed)


def array_path(group: Any) -> str:
    """Return the path of the one array of a group: plain, or the level of an OME-Zarr."""
    return "0" if "ome" in group.attrs else "pixels"


class IcechunkPixels(LazyArray):
    """An array of one snapshot of a repository, whose chunks are in the original files.

    Parameters
    ----------
    url : str
        Of the repository.
    storage_options, remote_options : mapping
        For the repository, and for the files.
    snapshot : str
        Its id.
    path : str
        Of the array.
    dtype : numpy.dtype
        In native byte order.
    kept : tuple
        Positions along each dim.
    arraytype : str
    """

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any],
        remote_options: Mapping[str, Any],
        snapshot: str,
        path: str,
        dtype: np.dtype[Any],
        kept: tuple[Positions, ...],
        arraytype: str,
    ) -> None:
        self.url = url
        self.storage_options = storage_options
        self.remote_options = remote_options
        self.snapshot = snapshot
        self.path = path
        self.kept = kept
        self._dtype = dtype
        self._arraytype = arraytype
        self._opened: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        where = (self.url, self.storage_options, self.remote_options, self.snapshot, self.path)
        return IcechunkPixels, (*where, self._dtype, self.kept, self._arraytype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""
        return tuple(map(len, self.kept))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order."""
        return self._dtype

    @property
    def arraytype(self) -> str:
        """Type of a block."""
        return self._arraytype

    def __repr__(self) -> str:
        return f"<IcechunkPixels {self.shape} {self.dtype} of {hide_in_text(self.url)}>"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        kept = tuple(map(tuple, self.kept))
        where = (self.url, self.snapshot, self.path)
        return "intake_tiffstack.IcechunkPixels", *where, kept, self.arraytype

    def on_host(self) -> IcechunkPixels:
        """Return the same array with NumPy blocks."""
        where = (self.url, self.storage_options, self.remote_options, self.snapshot, self.path)
        return IcechunkPixels(*where, self._dtype, self.kept, "numpy")

    def _read_into(self, out: NDArray[Any], ranges: tuple[range, ...]) -> None:
        wanted = [k[r.start : r.stop : r.step] for k, r in zip(self.kept, ranges, strict=True)]
        with icechunk_errors(self.url, "read"):
            if self._opened is None:
                repository = open_repository(self.url, self.storage_options, self.remote_options)
                store = repository.readonly_session(snapshot_id=self.snapshot).store
                self._opened = zarr.open_array(store, path=self.path, mode="r")
            index = tuple(
                slice(w.start, w.stop, w.step) if isinstance(w, range) else list(w) for w in wanted
            )
            out[...] = self._opened.oindex[index]


def read_icechunk_record(url: str, storage_options: Mapping[str, Any]) -> CopyRecord | None:
    """Return the audit record of the newest snapshot, None if it has none."""
    repository = open_repository(url, storage_options, storage_options)
    with icechunk_errors(url, "read"):
        session = repository.readonly_session("main")
        stored: Any = zarr.open_group(session.store, mode="r").attrs.get(IN_DOCUMENT)
    return None if stored is None else CopyRecord.from_json(stored, url)


def open_icechunk(
    url: str,
    storage_options: Mapping[str, Any] | None = None,
    *,
    remote_options: Mapping[str, Any] | None = None,
    arraytype: str = "numpy",
    sel: Mapping[str, Any] | None = None,
) -> ZarrCopy:
    """Return the lazy array, dims, coordinates and attributes of a repository, as it is now.

    Parameters
    ----------
    url : str
        Of the repository.
    storage_options : mapping, optional
        Of the repository, as s3fs takes them, and of the files where nothing else is said.
    remote_options : mapping, optional
        Of the files.
    arraytype : str
    sel : mapping, optional
        See :func:`~intake_tiffstack.copies.open_zarr.open_zarr`.

    Raises
    ------
    FilesNotFoundError
        If there is no repository.
    StorageError
        If it cannot be read, or was not written by this package.
    """
    url, options = str(url), dict(storage_options or {})
    files = dict(remote_options or options)
    repository = open_repository(url, options, files)
    with icechunk_errors(url, "read"):
        session = repository.readonly_session("main")
        group = zarr.open_group(session.store, mode="r")
        path = array_path(group)
        try:
            array = zarr.open_array(session.store, path=path, mode="r")
        except FileNotFoundError as exc:
            raise StorageError(f"{url} has no array {path!r}", url=url) from exc
    attrs = dict(array.attrs)
    coords = decode_coords(attrs.pop(OWN_KEY, None), url)
    metadata: Any = array.metadata
    dims = tuple(map(str, metadata.dimension_names or ()))

    def pixels(kept: tuple[Positions, ...]) -> IcechunkPixels:
        dtype = array.dtype.newbyteorder("=")
        return IcechunkPixels(
            url, options, files, session.snapshot_id, path, dtype, kept, arraytype
        )

    return label_copy(array, pixels, ZarrLabels(dims, coords, attrs), sel or {})
