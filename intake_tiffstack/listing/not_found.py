"""Error for a urlpath that matches no file: contents of the folder, and hints."""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from intake_tiffstack.errors import FilesNotFoundError, StorageError
from intake_tiffstack.listing.globs import TIFFS, Glob
from intake_tiffstack.listing.url_list import TIFF_SUFFIXES, has_tiff_suffix
from intake_tiffstack.storage.store import LocalStore, Store
from intake_tiffstack.storage.urls import absolute_url, is_local, split_chain

__all__ = ["few_names", "folders_below", "nothing_found"]

_FOLDERS_TRIED = 20  # some folders in a folder are listed, but not a whole archive


def nothing_found(store: Store, path: str, glob: Glob) -> FilesNotFoundError:
    """Return the error for *path*, with the contents of its folder and hints.

    Lists the fixed folder twice, and a few folders in it if it holds no TIFF.
    """
    try:
        files = store.files(glob.folder, lambda name: True)
        folders = sorted(store.folders(glob.folder))
    except (FilesNotFoundError, StorageError) as exc:
        seen = _missing_folder(glob.folder, exc)
        hints = [*_hints_from_text(path)]
    else:
        names = sorted(split_chain(url)[0].rpartition("/")[2] for url in files.urls)
        seen = f"{glob.folder} holds {_contents(names, folders)}"
        hints = [
            *_hints_from_text(path),
            *_hints_from_names(glob, names, folders),
            *_hints_from_below(store, glob, names, folders),
        ]
    return FilesNotFoundError("; ".join([f"no file found for {path}: {seen}", *hints]), url=path)


def _missing_folder(folder: str, exc: FilesNotFoundError | StorageError) -> str:
    if isinstance(exc, StorageError):
        return exc.message
    if not is_local(folder):
        return f"there is nothing at {folder} ({exc.details.get('cause')})"
    parent = name = folder.rstrip("/")
    while parent and not os.path.isdir(parent):
        parent, _, name = parent.rpartition("/")
    near = get_close_matches(name, LocalStore().folders(f"{parent}/"), n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return f"folder {folder} does not exist ({parent}/ does{hint})"


def _contents(names: Sequence[str], folders: Sequence[str]) -> str:
    """Return a short description of the contents of a folder. Pure.

    Examples
    --------
    >>> _contents(["a.png", "b.png", "README"], ["B02"])
    "3 files (2 .png, 1 without a suffix) and 1 folder ('B02')"
    >>> _contents([], [])
    'nothing'
    """
    parts = []
    if names:
        suffixes = Counter(os.path.splitext(name)[1] or "without a suffix" for name in names)
        most = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(4))
        more = ", ..." if len(suffixes) > 4 else ""
        parts.append(f"{len(names)} file{'s' * (len(names) > 1)} ({most}{more})")
    if folders:
        more = ", ..." if len(folders) > 1 else ""
        parts.append(f"{len(folders)} folder{'s' * (len(folders) > 1)} ({folders[0]!r}{more})")
    return " and ".join(parts) or "nothing"


def _hints_from_text(path: str) -> Iterator[str]:
    """Yield what is odd about the text of a path. Pure.

    >>> list(_hints_from_text("/home/$LAB/*.tif"))
    ["only a shell fills in '$LAB': in a catalog write {{ env('LAB') }}"]
    """
    if "{{" in path:
        yield "only a catalog fills in '{{ }}'"
    elif "CATALOG_DIR" in path:
        yield "in a catalog write {{ CATALOG_DIR }}, with two braces"
    elif re.search(r"\{[^{}]*,[^{}]*\}", path):
        yield "'{a,b}' is not supported: give a list of globs"
    elif found := re.search(r"\$\{?(\w+)\}?|%([A-Za-z_]\w*)%", path):
        name = found[1] or found[2]
        yield f"only a shell fills in {found[0]!r}: in a catalog write {{{{ env({name!r}) }}}}"
    if "\\" in path and is_local(path):
        yield "here a backslash is part of a name: write '/' between folders"
    if path[-1:].isspace():
        yield "it ends in a blank, which is part of the name"


def _hints_from_names(glob: Glob, names: Sequence[str], folders: Sequence[str]) -> Iterator[str]:
    if len(glob.parts) > 1:
        return
    part = glob.parts[0]
    if part == TIFFS:
        if "zarr.json" in names:
            yield "it is a Zarr, which the driver tiffstack_zarr opens"
        else:
            yield "a TIFF ends in " + " ".join(TIFF_SUFFIXES)
        return
    if part.text in names:
        yield f"{part.text!r} is a file: write no '/' behind it"
        return
    wanted = (part.glob or part.text).lower()
    cased = [name for name in names if fnmatch.fnmatchcase(name.lower(), wanted)]
    if cased:
        yield f"case matters: it would match {few_names(cased)} otherwise"
    elif part.glob is None:
        near = get_close_matches(part.text, names, n=2)
        if near:
            yield f"did you mean {few_names(near)}?"
    matched = [name for name in folders if part.fits(name)]
    if matched:
        yield f"it matches folders, such as {matched[0]!r}: add '/' for the TIFFs in them"


def _hints_from_below(
    store: Store, glob: Glob, names: Sequence[str], folders: Sequence[str]
) -> Iterator[str]:
    if len(glob.parts) > 1 or any(map(has_tiff_suffix, names)):
        return
    for name in folders[:_FOLDERS_TRIED]:
        try:
            below = store.files(f"{glob.folder}{name}/", has_tiff_suffix)
        except (FilesNotFoundError, StorageError):  # no hint from a folder that cannot be listed
            continue
        if below:
            first = split_chain(min(below.urls))[0]
            suffix = os.path.splitext(first)[1]
            yield f"TIFFs lie below it, such as {first}: try {glob.folder}**/*{suffix}"
            return


def folders_below(urlpath: Any) -> tuple[str, ...]:
    """Return the folders that lie in a local folder and hold TIFFs.

    Lists each of them once; those that cannot be read are skipped.
    """
    found: list[str] = []
    for text in urlpath if isinstance(urlpath, list | tuple) else [urlpath]:
        folder = absolute_url(str(text)).rstrip("/")
        if not is_local(str(text)) or not os.path.isdir(folder):
            continue
        store = LocalStore()
        for name in sorted(store.folders(f"{folder}/")):
            with suppress(StorageError, FilesNotFoundError):
                if store.files(f"{folder}/{name}/", has_tiff_suffix):
                    found.append(f"{folder}/{name}")
    return tuple(found)


def few_names(names: Sequence[str]) -> str:
    """Return up to two names, and how many more there are. Pure.

    Examples
    --------
    >>> few_names(["A.TIF", "B.TIF", "C.TIF"])
    "'A.TIF', 'B.TIF' and 1 more"
    """
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(map(repr, names[:2])) + more
