"""Sets of files that one program wrote as one image: which files, and which plane is in which."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.file_reader import reader_of
from intake_tiffstack.collection.micromanager_set import NDTIFF_INDEX, find_mmstack, find_ndtiff
from intake_tiffstack.collection.model import FileSet
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import (
    FilesNotFoundError,
    LayoutError,
    MissingFilesError,
    OptionError,
    StorageError,
    UnreadableFileError,
    warn,
)
from intake_tiffstack.formatting import few
from intake_tiffstack.layout.combine import combine
from intake_tiffstack.layout.planes import PlaneMap
from intake_tiffstack.listing.list_files import Listing, list_files
from intake_tiffstack.listing.url_list import has_tiff_suffix
from intake_tiffstack.metadata.describe_file import describe_file
from intake_tiffstack.metadata.ome_set import (
    base_name,
    names_other_files,
    read_ome_set,
    read_uuid,
    without_files,
)
from intake_tiffstack.metadata.reader import RawMetadata
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.files import FileTable
from intake_tiffstack.storage.store import open_store
from intake_tiffstack.storage.urls import is_local, split_chain

if TYPE_CHECKING:
    from intake_tiffstack.collection.model import HeadersRead
    from intake_tiffstack.layout.model import Grid, Layout
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.metadata.ome_parts import FileRef
    from intake_tiffstack.metadata.ome_set import SetImage
    from intake_tiffstack.options import Options
    from intake_tiffstack.reading.reader import CollectionReader
    from intake_tiffstack.storage.files import File
    from intake_tiffstack.storage.store import Store
    from intake_tiffstack.structure import Structure

__all__ = ["PlacedSet", "build_set", "find_set", "warn_of_siblings"]

_POSITION = "position"
"""Dim of the images of a set with ``series="all"``."""

_EXCLUDED = ("pattern", "concat_dim", "sel", "files", "file_dims", "labels")
"""Options that say what a set says itself."""


@dataclass(frozen=True, eq=False)
class PlacedSet:
    """The array that a set makes."""

    layout: Layout
    planes: PlaneMap
    described: Mapping[int, FileMetadata]
    """Metadata of the array, by the row that stands for it."""
    absent: tuple[str, ...]

    def describe(self) -> str:
        """Return what a report says of it."""
        holes = int((self.planes.rows < 0).sum())
        text = f"{self.planes.rows.size:,} planes in {len(self.planes.counts):,} files"
        text += f"; {holes:,} planes in no file" if holes else ""
        return text + (f"; absent: {few(self.absent, 4)}" if self.absent else "")


# -- finding the files ---------------------------------------------------------------------------


def find_set(options: Options) -> FileSet:
    """Return the set that the files at ``urlpath`` are of.

    The metadata of an OME set are those of the first of these files, a companion, or the file that
    they point to; siblings are looked for in the folder of the metadata, by name and UUID. Sets of
    Micro-Manager have an index of their own.

    Raises
    ------
    OptionError
        If an option contradicts a set, or the urlpath matches files of no or another set.
    FilesNotFoundError
        If a file with metadata, or every file with pixels, is absent.
    """
    for name in _EXCLUDED:
        if getattr(options, name):
            raise OptionError(
                f"sets={options.sets!r} takes the place of each plane from the files, so that "
                f"{name} says nothing: keep one of them",
                option=name,
            )
    for name, other in (
        ("place", options.place != "index"),
        ("layout", options.layout == "sidecar"),
    ):
        if other:
            raise OptionError(
                f"sets={options.sets!r} and {name}={getattr(options, name)!r}: keep one of them"
            )
    given = list_files(
        options.urlpath, storage_options=options.storage_options, exclude=options.exclude
    )
    finders = {"ndtiff": find_ndtiff, "mmstack": find_mmstack}
    find = finders.get(options.sets)
    return _OmeFinder(options, given).find() if find is None else find(options, given)


class _OmeFinder:
    """Looks for the files of one OME-TIFF set."""

    def __init__(self, options: Options, given: Listing) -> None:
        self.given = given
        self.storage_options = options.storage_options
        self.reader: CollectionReader = reader_of(options)
        self.home: File = given.files[0]
        self.store: Store = open_store(self.home.url, options.storage_options)

    def find(self) -> FileSet:
        """Return the set."""
        raw = self._read_home()
        xml = raw.tags["ome_xml"]
        content = self._parse(xml)
        if content.elsewhere is not None:
            raw = self._follow(content.elsewhere)
            xml = raw.tags["ome_xml"]
            content = self._parse(xml)
        found: dict[FileRef, File] = {}
        absent = []
        for ref in content.refs:
            file = self._resolve(ref, set(content.refs))
            if file is None:
                absent.append(base_name(ref.name or "") or f"a file of {ref.uuid}")
            else:
                found[ref] = file
        if not found:
            raise FilesNotFoundError(
                f"{self.home.url} is of a set of {len(content.refs)} files, none of which is "
                f"beside it: {few(absent, 4)}",
                url=self.home.url,
            )
        files = list(dict.fromkeys(found.values()))
        self._refuse_others({file.url for file in files})
        return FileSet(
            listing=Listing(FileTable.from_files(files), self.folder, False, None, True),
            images=content.images,
            rows={ref: files.index(file) for ref, file in found.items()},
            absent=tuple(dict.fromkeys(absent)),
            home=self.home.url,
            metadata=replace(raw, tags={**raw.tags, "ome_xml": without_files(xml)}),
        )

    @property
    def folder(self) -> str:
        """The folder of the metadata, without the URL of an archive; ends in a slash."""
        return f"{split_chain(self.home.url)[0].rpartition('/')[0]}/"

    def _parse(self, xml: str) -> Any:
        try:
            return read_ome_set(xml)
        except ValueError as exc:
            raise UnreadableFileError(
                f"the OME-XML of {self.home.url} cannot be read: {exc}", url=self.home.url
            ) from exc

    def _read_home(self) -> RawMetadata:
        """Return the metadata of the TIFF or the companion that is home."""
        if not has_tiff_suffix(self.home.url):
            content = self.store.read(split_chain(self.home.url)[0])
            return RawMetadata({"ome_xml": content.decode("utf-8-sig", errors="replace")})
        raw = self.reader.raw_metadata(self.home)
        if "ome_xml" not in raw.tags:
            raise OptionError(
                f"sets='ome' needs the OME-XML of a set, but {self.home.url} has none: leave sets "
                "out, and give a pattern for files that belong together by their names"
            )
        return raw

    def _follow(self, ref: FileRef) -> RawMetadata:
        """Return the metadata of the file that a file without its own points to."""
        pointer, name = self.home, base_name(ref.name or "")
        file = self._beside.get(name)
        if file is None:
            file = next(iter(self.store.files(self.folder, lambda other: other == name)), None)
        if file is None:
            raise FilesNotFoundError(
                f"{pointer.url} has the metadata of its set in {name or 'a file without a name'}, "
                "which is not beside it",
                url=pointer.url,
            )
        self.home = file
        raw = self._read_home()
        found = read_uuid(raw.tags["ome_xml"])
        if ref.uuid and found and found != ref.uuid:
            warn(f"{pointer.url} is of the set {ref.uuid}, but {self.home.url} is of {found}")
        return raw

    @cached_property
    def _beside(self) -> dict[str, File]:
        """The TIFFs in the folder of the metadata, by name."""
        files = self.store.files(self.folder, has_tiff_suffix)
        return {split_chain(file.url)[0].rpartition("/")[2]: file for file in files}

    @cached_property
    def _by_uuid(self) -> dict[str, File]:
        """The TIFFs in the folder whose OME-XML has a UUID; reads the header of each."""
        return {uuid: file for file in self._beside.values() if (uuid := self._uuid(file))}

    def _uuid(self, file: File) -> str | None:
        """Return the UUID of a file, None for one without, or that cannot be read."""
        with suppress(UnreadableFileError, StorageError):
            xml = self.reader.raw_metadata(file).tags.get("ome_xml")
            return None if xml is None else read_uuid(xml)
        return None

    def _resolve(self, ref: FileRef, refs: set[FileRef]) -> File | None:
        """Return the file that the metadata mean, None if it is not there.

        A file in the folder of the metadata counts by its name, unless its UUID is that of
        another of the set; one elsewhere, or of another name, by its UUID alone.
        """
        if ref.is_here:
            home = self._beside.get(base_name(split_chain(self.home.url)[0]))
            return home if has_tiff_suffix(self.home.url) else None
        file = self._elsewhere(ref)
        if file is not None:
            return file
        name = base_name(ref.name or "")
        file = self._beside.get(name)
        if file is not None:
            own = self._uuid(file) if ref.uuid else None
            if own in (None, ref.uuid):
                return file
            if all(own != other.uuid for other in refs) and ref.uuid not in self._by_uuid:
                warn(f"{file.url} has the UUID {own}, but its set knows it as {ref.uuid}")
                return file
        file = self._by_uuid.get(ref.uuid) if ref.uuid else None
        if file is not None:
            warn(f"{file.url} is the file that its set calls {name}: their UUID is the same")
        return file

    def _elsewhere(self, ref: FileRef) -> File | None:
        """Return a file that is named in another folder of the same store, if its UUID agrees."""
        path = (ref.name or "").replace("\\", "/")
        if "/" not in path or "://" in path or ref.uuid is None:
            return None
        home = split_chain(self.home.url)[0]
        if path.startswith("/") and not is_local(home):
            return None
        start, colon, inside = home.rpartition("://")
        joined = posixpath.normpath(posixpath.join(posixpath.dirname(inside), path))
        url = f"{start}{colon}{joined}"
        if joined.startswith("..") or not has_tiff_suffix(url):
            return None
        with suppress(FilesNotFoundError, StorageError):
            file = self.store.stat(url)
            if file is not None and self._uuid(file) == ref.uuid:
                return file
        return None

    def _refuse_others(self, urls: set[str]) -> None:
        """Raise where the urlpath matches files that are not of the set."""
        others = [url for url in self.given.files.urls if url not in urls and has_tiff_suffix(url)]
        others = [url for url in others if url != self.home.url]
        if others:
            raise OptionError(
                f"urlpath matches {len(others)} TIFFs that are not of the set of {self.home.url}, "
                f"such as {others[0]}: give one file of the set, or leave the others out by exclude"
            )


def warn_of_siblings(file: File, reader: CollectionReader) -> None:
    """Warn if one file is opened of a set, and others of it are beside it."""
    with suppress(UnreadableFileError, StorageError):
        xml = reader.raw_metadata(file).tags.get("ome_xml")
        folder, _, name = split_chain(file.url)[0].rpartition("/")
        if "NDTiffStack" in name and _is_there(f"{folder}/{NDTIFF_INDEX}", file.url, reader):
            warn(
                f"{hide_in_text(file.url)} is of the set that {NDTIFF_INDEX} beside it lists: "
                "sets='ndtiff' opens the whole set, of which this is a part"
            )
            return
        others = set() if xml is None else set(names_other_files(xml, name))
        if not others:
            return
        store = open_store(file.url, reader.storage_options)
        found = store.files(f"{folder}/", lambda other: other in others)
        there = sorted(split_chain(url)[0].rpartition("/")[2] for url in found.urls)
        if there:
            files = f"{len(there):,} more file{'s' * (len(there) > 1)} beside it"
            warn(
                f"{hide_in_text(file.url)} is of an OME-TIFF set with {files}, "
                f"{few(there, 3)}: sets='ome' opens the whole set, of which this is a part"
            )


def _is_there(path: str, beside: str, reader: CollectionReader) -> bool:
    with suppress(FilesNotFoundError):
        return open_store(beside, reader.storage_options).stat(path) is not None
    return False


# -- from the files to an array ------------------------------------------------------------------


def build_set(
    found: FileSet, grid: Grid, headers: HeadersRead, options: Options, paths: Sequence[str]
) -> PlacedSet:
    """Return the array of the planes of a set.

    Parameters
    ----------
    found : FileSet
    grid : Grid
        The files along one axis.
    headers : HeadersRead
        The structure of each file, as pages.
    options : Options
    paths : sequence of str
        Where each row is, for errors.

    Raises
    ------
    LayoutError
        If the pages of the files differ in shape or dtype.
    MissingFilesError
        If planes are in no file and ``missing`` is ``"raise"``.
    OptionError
        If there is no such series, or ``missing`` is ``"trim"``.
    """
    if options.missing == "trim":
        raise OptionError("a set takes missing='raise', 'fill' or 'mask', but got missing='trim'")
    first = int(grid.rows[0])
    template = headers.structures[first]
    counts = _count_pages(headers.structures, first, paths)
    for row, count in found.pages.items():
        if counts[row] > count:  # both grow plane by plane, and a crash cuts the index
            warn(
                f"{hide_in_text(found.home)} knows {count:,} of the {counts[row]:,} pages of "
                f"{hide_in_text(paths[row])}: those at the end are left out"
            )
    images = _chosen(found.images, options.series)
    planes = _locate(images, found.rows, counts)
    names, sizes = images[0].dims, images[0].shape
    if len(images) > 1:
        names, sizes = (_POSITION, *names), (len(images), *sizes)
    is_kept = [n > 1 for n in planes.rows.shape]
    kept = [i for i, n in enumerate(is_kept) if n]
    shape = tuple(planes.rows.shape[i] for i in kept)
    planes = replace(planes, rows=planes.rows.reshape(shape), pages=planes.pages.reshape(shape))
    lead = tuple(names[i] for i in kept)
    if options.missing == "raise" and (planes.rows < 0).any():
        raise MissingFilesError(_describe_holes(planes, lead, found.absent))
    whole = replace(
        template,
        shape=(*shape, *template.page_shape),
        dims=(*lead, *template.dims[-template.page_ndim :]),
        kind="ome",
        others=(),
    )
    layout = combine(
        replace(grid, axes=(), cells=np.array(first, np.int32)),
        {first: whole},
        paths=paths,
        dims=options.dims,
        coords={
            **{dim: images[0].coords[dim] for dim in lead if dim in images[0].coords},
            **options.coords,
        },
        sizes=options.sizes,
        missing="raise",
    )
    if options.missing == "mask":
        layout = replace(layout, coords={**layout.coords, "is_missing": (lead, planes.rows < 0)})
    described = describe_file(
        found.metadata,
        whole.dims,
        whole.shape,
        url=hide_in_text(found.home),
        series=options.series if isinstance(options.series, int) else 0,
    )
    described = _in_order_of(images[0].coords, _with_records(described, lead, found.along))
    return PlacedSet(layout, planes, {first: described}, found.absent)


def _with_records(
    described: FileMetadata, dims: Sequence[str], along: Mapping[str, Mapping[str, Any]]
) -> FileMetadata:
    """Return metadata with what planes record of stage, times and heights."""
    found: dict[str, Any] = {"stage": dict(described.stage)}
    known = dict(described.provenance)
    for dim in dims:
        role, records = role_of(dim), along.get(dim, {})
        for key, values in records.items():
            if role is Role.TIME:
                found["times"], name = tuple(value / 1e3 for value in values), "times"
            elif role is Role.Z:
                found["heights"], name = values, "heights"
            else:
                letter = key[0].lower()
                found["stage"][letter], name = values, f"stage.{letter}"
            known[name] = f"{key} of planes"
    return replace(described, **found, provenance=known)


def _in_order_of(coords: Mapping[str, Sequence[Any]], described: FileMetadata) -> FileMetadata:
    """Return metadata with channels in the order of their names along the dim of channels.

    Nothing of channels where the index names others than the metadata.
    """
    names = next((own for dim, own in coords.items() if role_of(dim) is Role.CHANNEL), ())
    known = described.channels.get("channel_names", ())
    if not names or not all(isinstance(name, str) for name in names):
        return described
    order = [known.index(name) for name in names if name in known]
    fits = len(order) == len(names)
    channels = {
        key: tuple(values[i] for i in order)
        for key, values in described.channels.items()
        if fits and len(values) == len(known)
    }
    return replace(described, channels=channels)


def _count_pages(
    structures: Mapping[int, Structure], first: int, paths: Sequence[str]
) -> tuple[int, ...]:
    """Return how many pages each file has; these must be alike."""
    template = structures[first]
    counts = [0] * len(paths)
    for row in range(len(paths)):
        own = structures.get(row)
        if own is None:
            continue  # it cannot be read, and is filled
        kind = own.page_shape, own.dtype
        if kind != (template.page_shape, template.dtype):
            raise LayoutError(
                f"the files of the set are not alike: {paths[first]} is {template.describe()}, but "
                f"{paths[row]} is {own.describe()}"
            )
        counts[row] = int(np.prod(own.shape[: -own.page_ndim], dtype=int))
    return tuple(counts)


def _chosen(images: tuple[SetImage, ...], series: int | str) -> tuple[SetImage, ...]:
    """Return the images that ``series`` means; warns of others if it is not given."""
    if isinstance(series, int) and series >= len(images):
        raise OptionError(f"series={series}, but the set has {len(images)} images")
    if isinstance(series, int):
        if series == 0 and len(images) > 1:
            warn(
                f"the set has {len(images) - 1:,} more images that are not opened: "
                f"{few([image.name for image in images[1:]], 4)}; the option series chooses "
                "another one, series='all' takes all that are like the first"
            )
        return (images[series],)
    first = images[0]
    return tuple(im for im in images if (im.dims, im.shape) == (first.dims, first.shape))


def _locate(
    images: Sequence[SetImage], rows: Mapping[FileRef, int], counts: Sequence[int]
) -> PlaneMap:
    """Return where each plane is, without trailing positions that the files never had.

    Programs write the length that they planned, and an acquisition may end early.
    """
    lead = () if len(images) == 1 else (len(images),)
    shape = (*lead, *images[0].shape)
    table, pages = np.full(shape, -1, np.int32), np.zeros(shape, np.int64)
    is_due = np.zeros(shape, bool)
    for number, image in enumerate(images):
        for place, (ref, page) in image.planes.items():
            at = (number, *place) if lead else place
            row = rows.get(ref)
            is_due[at] = row is None
            if row is not None and page < max(counts[row], 0):
                table[at], pages[at] = row, page
    axis = len(lead)
    is_due |= table >= 0
    others = tuple(i for i in range(len(shape)) if i != axis)
    used = np.flatnonzero(is_due.any(axis=others))
    if not len(used):
        raise LayoutError("the set has no plane in any of its files")
    if not shape:  # a single plane
        return PlaneMap(table, pages, tuple(counts))
    end = int(used[-1]) + 1
    if end < shape[axis]:
        warn(
            f"the OME-XML has {shape[axis]} positions along {images[0].dims[0]}, but pages for "
            f"{end}: these are opened"
        )
    kept = (*(slice(None),) * axis, slice(end))
    return PlaneMap(table[kept], pages[kept], tuple(counts))


def _describe_holes(planes: PlaneMap, dims: Sequence[str], absent: Sequence[str]) -> str:
    holes = np.argwhere(planes.rows < 0)
    first = ", ".join(f"{dim}={i}" for dim, i in zip(dims, holes[0].tolist(), strict=True))
    why = f"; absent: {few(absent, 4)}" if absent else ""
    return (
        f"{len(holes):,} of {planes.rows.size:,} planes of the set are in no file, the first at "
        f"{first or 'the only place'}{why}. Put the files back, or open the rest by missing='fill' "
        "or 'mask'"
    )
