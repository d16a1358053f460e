"""Watches or replaces what an array reads of each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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

    with ExitStack() as patches:
        patches.enter_context(patch("intake_tiffstack.reading.region.PartRead", Read))
        if read_part is not None:  # small files are otherwise read in groups, without `run`
            one_by_one = patch(
                "intake_tiffstack.reading.small_files.read_small_files",
                lambda files, reads, reader: reads,
            )
            patches.enter_context(one_by_one)
        yield


@contextmanager
def no_part_read() -> Iterator[None]:
    """Raise an AssertionError where a file is read."""

    def refuse(files: FileTable, part: FilePart, out: np.ndarray) -> None:
        raise AssertionError(f"{files.urls[part.row]} is read")

    with parts_read_by(refuse):
        yield
