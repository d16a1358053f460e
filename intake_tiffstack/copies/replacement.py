"""A local copy that is replaced: the new one is written beside it, and then takes its place.

Object stores have no such switch; there what makes the old copy open is removed first.
"""

from __future__ import annotations

import os

from intake_tiffstack.copies.zarr_documents import OPENING
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.urls import is_local

__all__ = ["find_beside"]

_SUFFIX = ".tiffstack-new"


def find_beside(folder: Folder) -> Folder | None:
    """Return the folder beside a copy in which its replacement is written.

    None where it could not take the place of the copy: in an object store, at a mount point, in a
    folder that cannot be written to or is itself a Zarr.
    """
    if not is_local(folder.url):
        return None
    path = os.path.realpath(folder.path)  # a link stays, and what it points to is replaced
    above, name = os.path.split(path)
    is_inside = any(os.path.exists(f"{above}/{document}") for document in OPENING)
    if os.path.ismount(path) or is_inside or not os.access(above, os.W_OK):
        return None
    return Folder.at(f"{above}/.{name}{_SUFFIX}")
