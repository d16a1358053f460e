"""The files of an OME-TIFF set, by the names and UUIDs in its OME-XML."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from intake_tiffstack.collection.file_reader import reader_of
from intake_tiffstack.collection.model import FileSet
from intake_tiffstack.errors import (
    FilesNotFoundError,
    OptionError,
    StorageError,
    UnreadableFileError,
    warn,
)
from intake_tiffstack.formatting import few
from intake_tiffstack.listing.list_files import Listing
from intake_tiffstack.listing.url_list import has_tiff_suffix
from intake_tiffstack.metadata.ome_set import (
    OmeSet,
    base_name,
    read_ome_set,
    read_uuid,
    without_files,
)
from intake_tiffstack.metadata.reader import RawMetadata
from intake_tiffstack.storage.files import FileTable
from intake_tiffstack.storage.store import open_store
from intake_tiffstack.storage.urls import is_local, split_chain

if TYPE_CHECKING:
    from intake_tiffstack.metadata.ome_parts import FileRef
    from intake_tiffstack.options import Options
    from intake_tiffstack.reading.reader import CollectionReader
    from intake_tiffstack.storage.files import File
    from intake_tiffstack.storage.store import Store

__all__ = ["find_ome"]


def find_ome(options: Options, given: Listing) -> FileSet:
    """Return the set that the files are of.

    Its metadata are those of the first of these files, a companion, or the file that they point
    to; the others are looked for in the folder of the metadata.

    Raises
    ------
    OptionError
        If the file has no OME-XML, or the urlpath matches files that are not of the set.
    FilesNotFoundError
        If a file with metadata, or every file with pixels, is absent.
    UnreadableFileError
        If the OME-XML cannot be read.
    """
    siblings = _Siblings(given.files[0], reader_of(options))
    raw = siblings.read_metadata()
    content = siblings.parse(raw)
    if content.elsewhere is not None:
        raw = siblings.follow(content.elsewhere)
        content = siblings.parse(raw)
    home = siblings.home.url
    found: dict[FileRef, File] = {}
    absent = []
    for ref in content.refs:
        file = siblings.find(ref, set(content.refs))
        if file is None:
            absent.append(base_name(ref.name or "") or f"a file of {ref.uuid}")
        else:
            found[ref] = file
    if not found:
        raise FilesNotFoundError(
            f"{home} is of a set of {len(content.refs)} files, none of which is "
            f"beside it: {few(absent, 4)}",
            url=home,
        )
    files = list(dict.fromkeys(found.values()))
    _refuse_others(given, home, {file.url for file in files})
    xml = without_files(raw.tags["ome_xml"])
    return FileSet(
        listing=Listing(FileTable.from_files(files), siblings.folder, False, None, True),
        images=content.images,
        rows={ref: files.index(file) for ref, file in found.items()},
        absent=tuple(dict.fromkeys(absent)),
        home=home,
        metadata=replace(raw, tags={**raw.tags, "ome_xml": xml}),
    )


def _refuse_others(given: Listing, home: str, urls: set[str]) -> None:
    """Raise where the urlpath matches files that are not of the set."""
    others = [url for url in given.files.urls if url not in urls and has_tiff_suffix(url)]
    others = [url for url in others if url != home]
    if others:
        raise OptionError(
            f"urlpath matches {len(others)} TIFFs that are not of the set of {home}, "
            f"such as {others[0]}: give one file of the set, or leave the others out by exclude"
        )


class _Siblings:
    """The file with the metadata of a set, and the files in its folder."""

    def __init__(self, home: File, reader: CollectionReader) -> None:
        self.home = home
        self.reader = reader
        self.store: Store = open_store(home.url, reader.storage_options)

    @property
    def folder(self) -> str:
        """The folder of the metadata, without the URL of an archive; ends in a slash."""
        return f"{split_chain(self.home.url)[0].rpartition('/')[0]}/"

    def parse(self, raw: RawMetadata) -> OmeSet:
        """Return which file has which plane, by the metadata of the file that has them."""
        try:
            return read_ome_set(raw.tags["ome_xml"])
        except ValueError as exc:
            raise UnreadableFileError(
                f"the OME-XML of {self.home.url} cannot be read: {exc}", url=self.home.url
            ) from exc

    def read_metadata(self) -> RawMetadata:
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

    def follow(self, ref: FileRef) -> RawMetadata:
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
        raw = self.read_metadata()
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

    def find(self, ref: FileRef, refs: set[FileRef]) -> File | None:
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
