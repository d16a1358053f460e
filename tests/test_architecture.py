"""The rooms stand in one order, imports point downwards only, and nothing goes in a circle."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "intake_tiffstack"

#: The rooms from the ground up, as the table in ``docs/design/rooms.md`` lists them. A room imports
#: those before it; rooms of one line do not import each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("redact", "dims", "natural_sort", "packed_texts", "last_used", "formatting", "codecs"),
    ("errors",),
    ("to_json", "settings"),
    ("progress", "options"),
    ("storage",),
    ("structure", "pattern"),
    ("listing", "layout", "metadata"),
    ("header", "device"),
    ("reading",),
    ("arrays",),
    ("labelled",),
    ("collection", "copies"),
    ("references",),
    ("export",),
    ("preview",),
    ("stack",),
    ("audit", "persist"),
    ("driver", "intake2", "xarray_engine"),
    ("samples",),
    ("cli", "napari_reader"),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name below the package."""
    found = {}
    for path in (ROOT / PACKAGE).rglob("*.py"):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found.pop("")  # the face of the package hands names on, lazily
    return found


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the package that a module imports, for type checking too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which room it enters"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            is_module = [name.removeprefix(f"{PACKAGE}.") in known for name in inside]
            found |= {name for name, is_one in zip(inside, is_module, strict=True) if is_one}
            found |= set() if all(is_module) else {str(node.module)}
    return {
        name.removeprefix(f"{PACKAGE}.").removeprefix(PACKAGE)
        for name in found
        if name == PACKAGE or name.startswith(f"{PACKAGE}.")
    }


MODULES = modules()
IMPORTS = {name: imports_of(path, MODULES) for name, path in MODULES.items()}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_has_a_floor() -> None:
    assert {room_of(module) for module in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_downwards(module: str) -> None:
    room = room_of(module)
    wrong = {
        target
        for target in IMPORTS[module]
        if room_of(target) != room and FLOOR_OF.get(room_of(target), 99) >= FLOOR_OF[room]
    }
    assert not wrong, f"{module} is on floor {FLOOR_OF[room]} and imports {sorted(wrong)}"


def test_no_modules_import_each_other() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as exc:
        pytest.fail(" -> ".join(exc.args[1]))


def test_the_map_lists_the_rooms_in_this_order() -> None:
    page = (ROOT / "docs" / "design" / "rooms.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)/?`", page, re.MULTILINE)
    assert [FLOOR_OF[room] for room in listed] == sorted(FLOOR_OF[room] for room in listed)
    assert sorted(listed) == sorted(FLOOR_OF)


def test_only_codecs_header_metadata_readers_and_one_writer_know_tifffile() -> None:
    knowing = {
        module
        for module, path in MODULES.items()
        if re.search(r"^\s*(import|from) tifffile", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    inside = {module for module in knowing if not module.startswith("metadata.readers.")}
    inside.discard("export.ome_tiff.tiff_file")
    assert {room_of(module) for module in inside} <= {"codecs", "header", "samples"}
