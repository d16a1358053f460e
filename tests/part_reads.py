"""Watches or replaces what an array reads of each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from intake_tiffstack.reading.parts import FilePart
from intake_tiffstack.reading.region import PartRead
from intake_tiffstack.storage.files import FileTable

ReadPart = Callable[[FileTable, FilePart, np.ndarray], None]


@contextmanager
def parts_read_by(read_part: ReadPart | None, watch: ReadPart | None = None) -> Iterator[None]:
    """Call *read_part* in place of each read, or *watch* before it."""

    class Read(PartRead):
        def __init__(self, files: FileTable, part: FilePart, out: np.ndarray, *rest: Any) -> None:
            super().__init__(files, part, out, *rest)
            if watch is not None:
                watch(files, part, out)
            if read_part is not None:
                self.run = lambda: read_part(files, part, out)

    with patch("intake_tiffstack.reading.region.PartRead", Read):
        yield


@contextmanager
def no_part_read() -> Iterator[None]:
    """Raise an AssertionError where a file is read."""

    def refuse(files: FileTable, part: FilePart, out: np.ndarray) -> None:
        raise AssertionError(f"{files.urls[part.row]} is read")

    with parts_read_by(refuse):
        yield
