"""Persisted copies: where they are stored, whether they are valid, and when a source reads one."""

from __future__ import annotations

from intake_tiffstack.persist.choose import choose_copy
from intake_tiffstack.persist.key import pixel_key
from intake_tiffstack.persist.open import PersistedStack
from intake_tiffstack.persist.store import CollectionCopies, Generation, prune
from intake_tiffstack.persist.write import none_persisted, persist_again, persist_collection

__all__ = [
    "CollectionCopies",
    "Generation",
    "PersistedStack",
    "choose_copy",
    "none_persisted",
    "persist_again",
    "persist_collection",
    "pixel_key",
    "prune",
]
