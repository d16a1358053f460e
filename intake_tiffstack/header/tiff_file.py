"""Opening a file for tifffile, with its faults named and its log collected."""

from __future__ import annotations

import logging
import struct
import threading
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

import imagecodecs
import numpy as np
import tifffile

from intake_tiffstack.errors import TiffStackError, UnreadableFileError, UnsupportedFileError
from intake_tiffstack.header.header_bytes import HeaderBytes, HeaderFile
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.special_files import open_regular
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FILE_FAULTS", "METADATA_KINDS", "file_faults_named", "open_tiff"]

METADATA_KINDS = (
    *("shaped", "lsm", "mmstack", "ome", "imagej", "ndtiff", "fluoview", "stk", "sis", "svs"),
    *("mikroscan", "motic", "trestle", "huron", "scn", "qpi", "bif", "avs", "eer", "philips"),
    *("scanimage", "indica", "nih", "flimage"),
)
"""Kinds of files whose metadata decide which images the pages make, as tifffile calls them.

Not NDPI, whose pages are images whatever its tags say, and whose offsets have 64 bits; nor MD Gel,
whose tags scale the pixels.
"""

_UIC2 = 33629
_TIMES_OF_PLANES = ("DateCreated", "TimeCreated", "DateModified", "TimeModified")
_MOST_PLANES = 10_000_000

_CHAIN_END = 2**31
"""Bytes of a file beyond which ScanImage's 32 bits do not reach."""

# What tifffile and imagecodecs raise for nonsense in a file, as met in fuzzed and damaged files.
# A tuple rather than ``Exception``: a mistake of ours (AttributeError, NameError) must stay one.
FILE_FAULTS: tuple[type[Exception], ...] = (
    ValueError,  # TiffFileError is one; also UnicodeError and wrong enum values
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,  # imagecodecs' codec errors, NotImplementedError
    EOFError,
    MemoryError,
    AssertionError,  # tifffile checks with assert
    struct.error,
    zlib.error,
    ParseError,  # broken XML of a vendor
    imagecodecs.DelayedImportError,  # a codec this build of imagecodecs lacks
)


@contextmanager
def open_tiff(
    data: HeaderBytes, url: str, *, pages_alone: bool = False
) -> Iterator[tuple[tifffile.TiffFile, list[str]]]:
    """Open a file for parsing, with what tifffile logs collected instead of printed.

    *pages_alone* takes the pages as they are, whatever the metadata make of them.
    """
    kind = _PagesAlone if pages_alone else tifffile.TiffFile
    # zeros and infinities in tags, which tifffile divides by
    with _captured_log() as notes, np.errstate(all="ignore"):
        with file_faults_named(url):
            try:
                tif = _parse(data, url, kind)
            except IndexError:  # a single page with the tag of an LSM, of which each has two
                tif = _parse(data, url, _PagesAlone if pages_alone else _NoLsm)
            _follow_pages(tif)
            notes += _settle_uic(tif)
        try:
            yield tif, notes
        finally:
            tif.close()
            data.raise_error()


def _parse(data: HeaderBytes, url: str, kind: type[tifffile.TiffFile]) -> tifffile.TiffFile:
    # _multifile=False: siblings named in OME-XML are other cells, not this file
    return kind(HeaderFile(data, url), name=hide_in_text(url), _multifile=False)


def _blind_to(*kinds: str) -> type[tifffile.TiffFile]:
    """Return tifffile's class of files that are never of these kinds.

    Its arguments (``is_svs=False``) do not do so for each kind since tifffile 2026.9.20.
    """
    flags = {f"is_{kind}": False for kind in kinds}
    return type("TiffFile", (tifffile.TiffFile,), flags)


_PagesAlone = _blind_to(*METADATA_KINDS)
_NoLsm = _blind_to("lsm")


def _follow_pages(tif: tifffile.TiffFile) -> None:
    """Let the pages of ScanImage be those of their chain.

    tifffile takes the pages to be as far from each other as the first ones, in files of which the
    chain is whole too: it loses the last one, and has others where a description is longer.
    """
    if not tif.is_bigtiff and tif.is_scanimage and tif.filehandle.size < _CHAIN_END:
        tif.filehandle.seek(4)
        tif.pages = tifffile.TiffPages(tif)


def _settle_uic(tif: tifffile.TiffFile) -> list[str]:
    """Empty the tags of a MetaMorph stack that tifffile could not read, as it logs.

    The count of UIC2, the distances and times of planes, is that of the planes. Returns a sentence
    where other tags have a value for more planes.
    """
    if not tif.is_stk:
        return []
    tags = tif.pages.first.tags
    for code in (33628, 33629, 33630, 33631):
        if isinstance(tags.valueof(code, {}), dict):
            continue
        tags[code].value = {}
        if code == _UIC2:
            unknown = np.zeros(min(tags[code].count, _MOST_PLANES))
            tags[code].value = dict.fromkeys(("ZDistance", *_TIMES_OF_PLANES), unknown)
    planes = tags[_UIC2].count if _UIC2 in tags else 1
    others = max((tags[code].count for code in (33630, 33631) if code in tags), default=0)
    if others <= planes:
        return []
    return [f"MetaMorph describes {others:,} planes, but counts {planes:,}: these are opened"]


@contextmanager
def file_faults_named(url: str) -> Iterator[None]:
    """Turn what nonsense in a file raises into an error of ours that names the file."""
    try:
        yield
    except TiffStackError:
        raise
    except OSError as exc:
        raise UnreadableFileError(f"{url} cannot be read: {short_text(exc)}", url=url) from exc
    except NotImplementedError as exc:
        raise UnsupportedFileError(f"{url} is not supported: {short_text(exc)}", url=url) from exc
    except imagecodecs.DelayedImportError as exc:
        raise UnsupportedFileError(
            f"{url} needs a codec that this imagecodecs does not have: {short_text(exc)}", url=url
        ) from exc
    except FILE_FAULTS as exc:
        if "not supported" in str(exc) or "is not a known COMPRESSION" in str(exc):
            raise UnsupportedFileError(
                f"{url} is not supported: {short_text(exc)}", url=url
            ) from exc
        raise UnreadableFileError(
            f"{url} cannot be read as TIFF: {short_text(exc)}; {advice_for(url)}", url=url
        ) from exc


def short_text(exc: BaseException) -> str:
    text = " ".join(str(exc).split())
    name = type(exc).__name__
    return f"{name}: {text[:197] + '...' if len(text) > 200 else text}" if text else name


def advice_for(url: str) -> str:
    """Return what to do about a local file that cannot be parsed, from its first bytes."""
    advice = "replace the file, or leave it out with `exclude`"
    if not is_local(url):
        return advice
    try:
        with open(open_regular(url), "rb") as handle:
            start = handle.read(64)
    except OSError:
        return advice
    if not start:
        return f"it is empty (0 bytes); {advice}"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the image: fetch it with `git lfs pull`"
    if start.startswith(b"/annex/objects/"):
        return f"it is a pointer of git-annex (DataLad), not the image: run `datalad get {url}`"
    return advice


class _LogFilter(logging.Filter):
    """Collects tifffile's log records of threads that asked for it, and passes the others on."""

    def __init__(self) -> None:
        super().__init__()
        self.local = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        notes: list[str] | None = getattr(self.local, "notes", None)
        if notes is None:
            return True
        if record.levelno >= logging.WARNING and len(notes) < 20:
            notes.append(" ".join(record.getMessage().split())[:300])
        return False


_LOG_FILTER = _LogFilter()
logging.getLogger("tifffile").addFilter(_LOG_FILTER)


@contextmanager
def _captured_log() -> Iterator[list[str]]:
    notes: list[str] = []
    before = getattr(_LOG_FILTER.local, "notes", None)
    _LOG_FILTER.local.notes = notes
    try:
        yield notes
    finally:
        _LOG_FILTER.local.notes = before
