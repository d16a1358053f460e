"""What exists at the destination of a copy, and what a writer may do with it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

from intake_tiffstack.copies.claim import Record, last_claim
from intake_tiffstack.copies.record import RECORD
from intake_tiffstack.copies.zarr_documents import CLAIMS, OPENING
from intake_tiffstack.errors import TargetExistsError
from intake_tiffstack.storage.folder import PARTIAL, Folder

__all__ = ["Action", "Destination", "inspect_destination"]

_DOCUMENTS = OPENING | {".zattrs", ".zmetadata", "METADATA.ome.xml", RECORD}
_is_chunk = re.compile(r"(c|(c[/.])?\d+([/.]\d+)*)").fullmatch


Action = Literal["start", "resume", "clear", "finish", "append"]
"""What a writer does at a destination."""


@dataclass(frozen=True)
class Destination:
    """What exists at the destination of a copy."""

    folder: Folder
    sizes: Mapping[str, int]
    """The names of all objects below it, and their sizes in bytes."""
    claim: Record | None
    """Of the last writer, if there is one."""

    @property
    def keys(self) -> Set[str]:
        """The names of all objects below it."""
        return self.sizes.keys()

    @property
    def is_whole(self) -> bool:
        """Whether a Zarr array or group opens there."""
        return not OPENING.isdisjoint(self.keys)

    @property
    def stored(self) -> frozenset[str]:
        """The names of all objects but the claims."""
        return frozenset(key for key in self.keys if not key.startswith(f"{CLAIMS}/"))

    @property
    def filled(self) -> frozenset[str]:
        """The names of objects that are not empty: a crash may lose data that was not flushed."""
        return frozenset(key for key in self.stored if self.sizes[key])

    def refresh(self) -> Destination:
        """Return the present state, with the same last claim; one listing."""
        return replace(self, sizes=self.folder.find_sizes())

    def choose_action(
        self,
        spec: Mapping[str, Any],
        *,
        overwrite: bool,
        resume: bool,
        is_extended: bool = False,
    ) -> Action:
        """Return what a writer does at this destination. Pure.

        ``start`` writing in an empty folder, ``resume`` an incomplete copy of equal *spec*,
        ``clear`` existing contents first, ``finish`` a complete copy whose claim was not removed,
        ``append`` to a complete copy.

        Raises
        ------
        TargetExistsError
            If something exists that must not be replaced.
        """
        if is_extended:
            return self._choose_growth(spec, resume=resume)
        if self.claim is None and not self.stored:
            return "start"
        is_equal = self.claim is not None and self.claim.spec == spec
        is_cleared = self.claim is not None and self.claim.phase == "writing"
        if self.is_whole:
            if is_equal and is_cleared and resume:
                return "finish"
            if overwrite:
                self._refuse_foreign()
                return "clear"
            raise self._exists("a Zarr")
        if self.claim is None:
            names = sorted(self.stored)
            raise self._exists(f"a folder with {names[0]!r} in it", is_zarr=False)
        if is_equal and is_cleared and resume:
            return "resume"
        # A claim truncated at its creation has no spec: all else was written after it.
        if is_equal or not self.claim.spec or overwrite:
            self._refuse_foreign()
            return "clear"
        raise TargetExistsError(
            f"{self.folder.url} holds a copy that is not whole, of {_difference(self.claim, spec)}"
            "; overwrite=True replaces it, or give another URL",
            url=self.folder.url,
        )

    def _choose_growth(self, spec: Mapping[str, Any], *, resume: bool) -> Action:
        """Return what a writer does that extends the copy at this destination. Pure.

        ``append`` after what an attempt at something else left is removed, or ``resume`` an attempt
        of equal *spec*.
        """
        is_equal = self.claim is not None and self.claim.spec == spec
        is_cleared = self.claim is not None and self.claim.phase == "writing"
        return "resume" if is_equal and is_cleared and resume else "append"

    def _refuse_foreign(self) -> None:
        """Raise if anything that exists is not part of a Zarr."""
        foreign = find_foreign(self.stored, is_whole=self.is_whole)
        if foreign is not None:
            raise self._exists(f"a Zarr with {foreign!r} in it", is_zarr=False)

    def _exists(self, what: str, *, is_zarr: bool = True) -> TargetExistsError:
        advice = "overwrite=True replaces it" if is_zarr else "nothing but a Zarr is overwritten"
        return TargetExistsError(
            f"{self.folder.url} exists already ({what}) and is left as it is; {advice}; "
            "or give another URL",
            url=self.folder.url,
        )


def inspect_destination(folder: Folder) -> Destination:
    """Return what exists at a folder: one listing, and one read if there are claims."""
    sizes = folder.find_sizes()
    has_claims = any(key.startswith(f"{CLAIMS}/") for key in sizes)
    return Destination(folder, sizes, last_claim(folder) if has_claims else None)


def find_foreign(keys: Collection[str], *, is_whole: bool = True) -> str | None:
    """Return a name that is not part of a Zarr, None if all are. Pure.

    In an incomplete Zarr any folder may be an array: its documents are written last.

    Examples
    --------
    >>> find_foreign(["zarr.json", "c/0/0", "0/.zarray", "0/.zattrs", "0/4.5", "c/0.ab12.partial"])
    >>> find_foreign(["zarr.json", "c/0/0", "notes.txt"])
    'notes.txt'
    >>> find_foreign(["B/03/0/1/c/0/0"], is_whole=False)
    """
    nodes = {key.rpartition("/")[0] for key in keys if key.rpartition("/")[2] in OPENING} | {""}
    for key in sorted(keys):
        folder, _, name = key.rpartition("/")
        if name in _DOCUMENTS or name.endswith(PARTIAL):
            continue
        parents = [folder[:i] for i, sign in enumerate(folder) if sign == "/"]
        inside = [node for node in ("", *parents, folder) if node in nodes or not is_whole]
        if not any(_is_chunk(key[len(node) :].lstrip("/")) for node in inside):
            return key
    return None


def _difference(claim: Record, spec: Mapping[str, Any]) -> str:
    """Return how an incomplete copy differs from *spec*. Pure."""
    old, new = claim.spec, spec
    if old.get("token") != new.get("token"):
        return "other pixels (the files or options have changed)"
    pairs = zip(old.get("arrays", ()), new.get("arrays", ()), strict=False)
    names = sorted({k for one, two in pairs for k in two if one.get(k) != two[k]})
    return f"another layout ({', '.join(names) or 'arrays'} differ)"
