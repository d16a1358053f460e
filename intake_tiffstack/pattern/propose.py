"""Patterns proposed from names: which part numbers what, and which of them span the grid. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import cached_property
from itertools import chain, combinations, islice, product
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import PatternError
from intake_tiffstack.formatting import few
from intake_tiffstack.pattern.matching import compile_pattern, default_concat_dim, match_paths
from intake_tiffstack.pattern.presets import PRESETS
from intake_tiffstack.pattern.tokens import (
    GUID,
    Part,
    group_makes,
    readings_of,
    width_of,
    without_odd_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.pattern.matching import Matches
    from intake_tiffstack.pattern.tokens import Make

__all__ = ["Proposal", "exclude_globs", "propose_patterns"]

_MAX_SAMPLE = 200
"""Names on which presets are tried."""

_MAX_FIELDS = 8
"""Fields of which all subsets are tried as axes."""

_MAX_READINGS = 32
"""Combinations of readings tried per make."""

#: What a field is called for the letters before it; others keep the letters.
_NAMES = {
    "tp": "t", "timelapse": "t", "fr": "frame",
    "zstep": "z", "plane": "z", "sl": "slice", "zslice": "z",
    "wv": "c", "chan": "c", "chn": "c", "wavelength": "c", "lambda": "c",
    "f": "field", "xy": "position", "series": "position", "stage": "position", "fld": "field",
    "col": "column", "r": "row",
    "b": "band",
}  # fmt: skip
_CHANNELS = re.compile(
    r"(?i)(?:dapi|hoechst|[de]?gfp|[rycb]fp|mcherry|cherry|tritc|fitc|cy[357](?:\.5)?|alexa.*|bf|"
    r"brightfield|phase|dic|tl|txred|texasred|draq5|[0-9]{3}nm|nir|red|green|blue|(?:em|ex)[0-9]{3})"
)
_SIDECAR = re.compile(
    r"(?i)(?:(?<![a-z])thumb|thumbnail|(?<![a-z0-9])(?:preview|overview|masks?|seg|segmentation|"
    r"b?qa(?:_pixel|_radsat|_aerosol)?)(?![a-z0-9]))"
)
"""What names of thumbnails, masks and quality bands contain."""
_SIDECAR_WORDS = ("thumb", "preview", "overview", "mask", "seg", "qa")


@dataclass(frozen=True, eq=False)
class Proposal:
    """A pattern, the grid that it spans over the names, and why it was chosen."""

    pattern: str
    """A format string, a regex or the name of a preset."""
    concat_dim: tuple[str, ...]
    """The axis fields, outermost first."""
    sizes: Mapping[str, int]
    """Positions along each axis."""
    rows: NDArray[np.intp]
    """Which of the names take part."""
    reasons: tuple[str, ...]
    """Why these axes, a sentence each."""
    sel: Mapping[str, list[object]] = field(default_factory=dict)
    """Values that are kept so that the grid has no hole."""
    unselected: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    """Which of the names the pattern reads and ``sel`` leaves out."""
    is_sidecar: bool = False
    """Whether the names are those of thumbnails or masks."""
    weight: float = 0.0
    """Doubt about the axes, less is better, between proposals that fill their grids alike."""

    @property
    def n_cells(self) -> int:
        """Cells of the grid."""
        return math.prod(self.sizes.values())

    @property
    def fullness(self) -> float:
        """Part of the cells that has a file, 0 to 1."""
        return len(self.rows) / self.n_cells

    def to_python(self) -> str:
        """Return the options as written in a call."""
        return f"pattern={self.pattern!r}, concat_dim={list(self.concat_dim)!r}"

    @cached_property
    def rank(self) -> tuple[float, ...]:
        """What proposals are sorted by, best first: many files on a full grid."""
        return (self.is_sidecar, -round(len(self.rows) * self.fullness, 6))


def propose_patterns(names: Sequence[str]) -> list[Proposal]:
    """Return the patterns that put the names on a grid, best first. Pure.

    Presets come first where one reads most names of a kind. Else what differs becomes a field
    named after the letters before it; the axes are the fields that tell every two names apart and
    span the fullest grid; fields that these decide are coordinates. Names whose separators differ
    are of another kind and have a proposal of their own.

    Parameters
    ----------
    names : sequence of str
        Paths relative to what they have in common, with forward slashes.

    Returns
    -------
    list of Proposal
        Empty where the names have nothing in common that counts them. Two of equal rank
        are equally good.

    Examples
    --------
    >>> names = [f"cells_P{p}_T{t:03d}.tif" for p in (1, 2) for t in range(3)]
    >>> best = propose_patterns(names)[0]
    >>> best.pattern, best.concat_dim, dict(best.sizes)
    ('cells_P{p:d}_T{t:03d}.tif', ('p', 't'), {'p': 2, 't': 3})
    """
    everything = np.arange(len(names))
    whole = _from_presets(names, everything, names[:: len(names) // _MAX_SAMPLE + 1], False)
    if whole and len(whole[-1].rows) == len(names):  # half the time of grouping names first
        return sorted(whole, key=_merit)
    found: list[Proposal] = []
    together = "\n".join(names).lower()  # a search per name takes as long as all the rest
    has_words = any(word in together for word in _SIDECAR_WORDS)
    beside = [has_words and bool(_SIDECAR.search(name)) for name in names]
    for is_sidecar in (False, True):
        rows = np.flatnonzero(np.array(beside, bool) == is_sidecar)
        makes = group_makes([names[row] for row in rows.tolist()])
        for make in chain.from_iterable(map(without_odd_names, makes)):
            make = replace(make, rows=rows[make.rows])
            kind = [names[row] for row in make.rows[:: len(make.rows) // _MAX_SAMPLE + 1].tolist()]
            of_preset = _from_presets(names, make.rows, kind, is_sidecar)
            found += of_preset or _from_parts(names, make, is_sidecar)
    return sorted(_without_repeats(_merge_presets(names, found)), key=_merit)


# -- presets -------------------------------------------------------------------------------------


def _from_presets(
    names: Sequence[str], rows: NDArray[np.intp], sample: Sequence[str], is_sidecar: bool
) -> list[Proposal]:
    """Return the proposal of the first preset that reads most of the names, else nothing."""
    for preset in PRESETS:
        tried = _match(preset, sample)
        # Two fields, since a preset whose parts are optional fits much by chance.
        if tried is None or len(tried.fields) < 2 or 2 * len(tried.indices) <= len(sample):
            continue
        matches = _match(preset, [names[row] for row in rows.tolist()])
        if matches is None:
            continue
        axes = default_concat_dim(matches.pattern, matches.fields)
        codes = {name: matches.fields[name].codes for name in axes}
        sizes = {name: len(matches.fields[name].keys) for name in axes}
        if not _are_distinct(codes.values(), sizes.values()):
            continue
        made = Proposal(
            preset, axes, sizes, rows[matches.indices],
            (f"preset {preset}: {PRESETS[preset].description}",),
            is_sidecar=is_sidecar,
        )  # fmt: skip
        keys = {name: list(matches.fields[name].keys) for name in axes}
        return [*_without_holes(made, codes, keys), made]
    return []


def _merge_presets(names: Sequence[str], found: Sequence[Proposal]) -> Iterator[Proposal]:
    """Yield the proposals, those of one preset over several kinds of names as one where it can."""
    by_preset: dict[str, list[Proposal]] = {}
    for proposal in found:
        if proposal.pattern in PRESETS and not proposal.sel:
            by_preset.setdefault(proposal.pattern, []).append(proposal)
    for parts in by_preset.values():
        if len(parts) > 1:
            rows = np.sort(np.concatenate([part.rows for part in parts]))
            sample = [names[row] for row in rows[:: len(rows) // _MAX_SAMPLE + 1].tolist()]
            yield from _from_presets(names, rows, sample, all(p.is_sidecar for p in parts))
    yield from found


def _without_repeats(found: Iterable[Proposal]) -> list[Proposal]:
    """Return the proposals without those whose names another one of their pattern reads."""
    kept: list[Proposal] = []
    for proposal in found:
        rows = set(proposal.rows.tolist())
        if not any(
            p.pattern == proposal.pattern and not proposal.sel and rows < set(p.rows.tolist())
            for p in kept
        ):
            kept.append(proposal)
    return kept


def _match(text: str, names: Sequence[str]) -> Matches | None:
    """Return what a pattern reads, None where it names no field or cannot read what it matches."""
    try:
        return match_paths(compile_pattern(text), names, "")
    except PatternError:
        return None


# -- parts ---------------------------------------------------------------------------------------


def _from_parts(names: Sequence[str], make: Make, is_sidecar: bool) -> list[Proposal]:
    """Return the proposals for names of one make: the fullest reading, and those equal to it."""
    last = len(make.columns) - 1
    alternatives = [
        readings_of(column, is_extension=i == last and i > 0 and make.columns[i - 1][0] == ".")
        for i, column in enumerate(make.columns)
    ]
    best: list[Proposal] = []
    others: list[Proposal] = []
    usual = _count_integers(ways[0] for ways in alternatives)
    for number, chosen in enumerate(islice(product(*alternatives), _MAX_READINGS)):
        parts = _name_parts([part for reading in chosen for part in reading])
        # one number read as two counts as good only where it fills the grid that it makes
        doubt = 0.0 if not number else -5.0 if _count_integers(chosen) > usual else 5.0
        doubt += number / 100  # the likelier reading comes first
        made = list(_span(names, make, parts, is_sidecar, doubt))
        first = min(made, key=_merit, default=None)
        if first is None or (best and _merit(first) > _merit(best[0])):
            continue
        if not best or _merit(first) < _merit(best[0]):
            best, others = [], []
        best += [p for p in made if _merit(p) == _merit(first)]
        others += [p for p in made if _merit(p) > _merit(first)]
    return [*best, *others]


def _merit(proposal: Proposal) -> tuple[Any, ...]:
    return proposal.rank, proposal.weight


def _count_integers(readings: Iterable[tuple[Part, ...]]) -> int:
    return sum(part.kind == "int" for reading in readings for part in reading)


@dataclass(frozen=True, eq=False)
class _Named:
    """A part and the name of its field, empty where it needs none."""

    part: Part
    name: str = ""


def _name_parts(parts: Sequence[Part]) -> list[_Named]:
    """Return the parts with names for those that differ, by the letters before them."""
    letters: list[str] = []
    before, is_next = "", False
    for part in parts:
        is_known = _NAMES.keys() & {before.lower()} or role_of(before) is not None
        letters.append(before if is_next or is_known else "")
        text = part.texts[0]
        is_text = part.kind == "literal" and text[-1:].isalnum()
        if is_text and not text.isdigit():
            before = text
        elif is_text or part.kind != "literal" or text == "/":
            before = ""
        is_next = is_text
    taken: set[str] = set()
    named = []
    present = {word.lower() for word in letters}
    for part, word in zip(parts, letters, strict=True):
        if part.kind in ("literal", "any"):
            named.append(_Named(part))
            continue
        named.append(_Named(part, _unused(part.hint or _field_name(part, word, present), taken)))
    return named


def _field_name(part: Part, word: str, present: set[str]) -> str:
    glued = re.fullmatch(".*[a-z]([TZCPSFW])", word)  # expT001
    low = (glued[1] if glued else word).lower()
    if part.kind == "text":
        if all(map(_CHANNELS.fullmatch, part.texts)):
            return "channel"
        if all(re.fullmatch("B[0-9]{1,2}A?", text) for text in part.texts):
            return "band"
        return low if role_of(low) is not None else "label"
    if low == "w":  # wavelength, or the well where the number has as many digits
        return "well" if (width_of(part.texts) or 0) > 2 or present & {"c", "ch"} else "c"
    if low == "f" and present & {"p", "s", "pos", "position", "site"}:
        return "frame"
    if low == "r" and not present & {"c", "col"}:
        return "r"
    if low == "c" and "r" in present and "ch" in present:
        return "column"
    return _NAMES.get(low, low) if low.isidentifier() and low.isalpha() else "i"


def _unused(stem: str, taken: set[str]) -> str:
    name = next(
        n for k in range(len(taken) + 1) if (n := f"{stem}{k + 1}" if k else stem) not in taken
    )
    taken.add(name)
    return name


def _span(
    names: Sequence[str], make: Make, parts: Sequence[_Named], is_sidecar: bool, doubt: float
) -> Iterator[Proposal]:
    """Yield the proposals of one reading: a grid for each choice of axes that is as full."""
    varying = [p for p in parts if p.name and p.part.kind != "literal"]
    if not varying:
        return
    n = len(make.rows)
    if [p.name for p in varying] == ["label"] and _is_all_that_is_there(parts, varying[0]):
        return  # any names differ
    classes = _equal_classes(varying)
    chosen = _choose_axes([group[0] for group in classes], n)
    for axes in chosen:
        ordered = sorted(axes, key=varying.index)
        if all(role_of(p.name) for p in axes):
            ordered.sort(key=_place)
        axis_names = tuple(p.name for p in ordered)
        sizes = {p.name: len(p.part.texts) for p in ordered}
        pattern = _spell(parts, [names[row] for row in make.rows.tolist()])
        if pattern is None:
            return
        decided = [p.name for p in varying if p.name not in axis_names]
        reasons = [f"{n:,} names differ in {', '.join(p.name for p in varying)}"]
        if decided:
            reasons.append(f"{', '.join(axis_names)} decide {', '.join(decided)}")
        made = Proposal(
            pattern, axis_names, sizes, make.rows, tuple(reasons),
            is_sidecar=is_sidecar,
            weight=sum(map(_weight, ordered)) + (abs(doubt) if decided else doubt),
        )  # fmt: skip
        codes = {p.name: p.part.codes for p in ordered}
        keys = {p.name: _keys(p.part) for p in ordered}
        yield from _without_holes(made, codes, keys)
        yield made


def _is_all_that_is_there(parts: Sequence[_Named], named: _Named) -> bool:
    """Return whether a file's name is just this part and its extension."""
    at = parts.index(named)
    before, behind = parts[at - 1] if at else None, [p.part.texts[0] for p in parts[at + 1 :]]
    return (
        (before is None or before.part.texts[0] == "/")
        and behind[:1] == ["."]
        and (len(behind) == 2)
    )


def _place(named: _Named) -> int:
    """Return where an axis with a role stands by default."""
    return [role_of(named.name) == role for role in Role].index(True)


def _keys(part: Part) -> list[object]:
    convert: Callable[[str], object] = {"int": int, "float": float}.get(part.kind, str)
    return list(map(convert, part.texts))


def _weight(named: _Named) -> float:
    """Return how unlikely a part is an axis."""
    if named.part.kind == "int" and min(map(int, named.part.texts)) >= 10**8:  # of a clock
        return 3.5
    base = {"int": 1.0, "float": 1.0, "text": 2.0, "time": 3.0}[named.part.kind]
    return base - 1.0 * (role_of(named.name) is not None and named.part.kind != "time")


def _equal_classes(varying: Sequence[_Named]) -> list[list[_Named]]:
    """Return the parts in groups of those that decide each other, the likeliest axis first."""
    groups: list[list[_Named]] = []
    for named in sorted(varying, key=_weight):
        n = len(named.part.texts)
        for group in groups:
            first = group[0].part
            if len(first.texts) == n and len(np.unique(first.codes * n + named.part.codes)) == n:
                group.append(named)
                break
        else:
            groups.append([named])
    return groups


def _choose_axes(parts: Sequence[_Named], n_names: int) -> list[tuple[_Named, ...]]:
    """Return the sets of parts that tell all names apart on the smallest grid."""
    parts = sorted(parts, key=lambda p: (_weight(p), len(p.part.texts)))[:_MAX_FIELDS]
    subsets = [s for k in range(1, len(parts) + 1) for s in combinations(parts, k)]

    def cost(subset: tuple[_Named, ...]) -> tuple[float, float]:
        return math.prod(len(p.part.texts) for p in subset), sum(map(_weight, subset))

    best: list[tuple[_Named, ...]] = []
    least: tuple[float, float] | None = None
    for subset in sorted(subsets, key=cost):
        size = cost(subset)
        if size[0] < n_names or size[0] > max(64 * n_names, 4096):
            continue
        if least is not None and size > least:
            break
        if _are_distinct([p.part.codes for p in subset], [len(p.part.texts) for p in subset]):
            best.append(subset)
            least = size
    return best


def _are_distinct(codes: Iterable[NDArray[np.signedinteger[Any]]], sizes: Iterable[int]) -> bool:
    shape = tuple(sizes)
    if not shape or math.prod(shape) > 20_000_000:
        return False
    flat = np.ravel_multi_index(tuple(codes), shape)
    return int(np.bincount(flat).max()) <= 1


def _without_holes(
    made: Proposal,
    codes: Mapping[str, NDArray[np.signedinteger[Any]]],
    keys: Mapping[str, Sequence[object]],
) -> Iterator[Proposal]:
    """Yield the proposal without the positions that make holes, if that loses few files."""
    if made.fullness == 1:
        return
    present = np.zeros(tuple(made.sizes.values()), bool)
    present[tuple(codes.values())] = True
    n_holes = made.n_cells - len(made.rows)
    for axis, name in enumerate(made.concat_dim if present.ndim > 1 else ()):
        others = tuple(i for i in range(present.ndim) if i != axis)
        is_whole = np.atleast_1d(present.all(axis=others))
        kept = np.flatnonzero(is_whole)
        rows = made.rows[is_whole[codes[name]]]
        n_lost = len(made.rows) - len(rows)
        if len(kept) and n_lost < n_holes:
            gone = few([keys[name][i] for i in np.flatnonzero(~is_whole).tolist()], 4)
            reason = f"without {name} = {gone} ({n_lost:,} files) the grid has no hole"
            yield replace(
                made,
                sizes={**made.sizes, name: len(kept)},
                rows=rows,
                unselected=made.rows[~is_whole[codes[name]]],
                reasons=(*made.reasons, reason),
                sel={name: [keys[name][i] for i in kept.tolist()]},
            )
            return


# -- spelling ------------------------------------------------------------------------------------


def _spell(parts: Sequence[_Named], names: Sequence[str]) -> str | None:
    """Return the format string that reads the names, a regex where none reads them one way."""
    folders = {name.rpartition("/")[0] for name in names}
    if len(folders) == 1:  # a format string is matched against as many parts as it has
        last = max((i for i, p in enumerate(parts) if p.part.texts[0] == "/"), default=-1)
        parts = parts[last + 1 :]
    spellings = (_format_string, _regex)
    for spelling in spellings:
        text = spelling(parts)
        found = _match(text, names)
        if found is not None and len(found.indices) == len(names):
            return text
    return None


def _format_string(parts: Sequence[_Named]) -> str:
    text = ""
    for i, named in enumerate(parts):
        part = named.part
        following = parts[i + 1].part if i + 1 < len(parts) else None
        match part.kind:
            case "literal":
                text += part.texts[0].replace("{", "{{").replace("}", "}}")
            case "any":
                text += "{}"
            case "int":
                text += f"{{{named.name}:{_integer_spec(part.texts, following)}}}"
            case "float":
                text += f"{{{named.name}:f}}"
            case "time":
                text += f"{{{named.name}:{part.spec}}}"
            case "text":
                text += f"{{{named.name}}}"
    return re.sub(r"\{\}(?:\{\})+", "{}", text)


def _integer_spec(texts: Sequence[str], following: Part | None) -> str:
    """Return ``d``, ``03d`` where the texts are padded with zeros, ``3d`` before other digits.

    >>> _integer_spec(["8", "9", "10"], None), _integer_spec(["08", "09", "10"], None)
    ('d', '02d')
    """
    width = width_of(texts)
    if not all(map(str.isdigit, texts)):  # with a sign
        return "d"
    if following is not None and following.kind != "literal" and width is not None:
        return f"{width}d"
    least = min(map(len, texts))
    is_padded = least > 1 and any(text.startswith("0") for text in texts)
    return f"0{least}d" if is_padded else "d"


def _regex(parts: Sequence[_Named]) -> str:
    text = r"(?<![^/])"
    for named in parts:
        part = named.part
        match part.kind:
            case "literal":
                text += re.escape(part.texts[0]).replace(r"\-", "-").replace(r"\ ", " ")
            case "any":
                text += GUID if len(part.texts[0]) == 36 else "[^/]+"
            case "float":
                text += rf"(?P<{named.name}>[-+]?\d+(?:\.\d+)?)"
            case "int" if not all(map(str.isdigit, part.texts)):
                text += rf"(?P<{named.name}>[-+]?\d+)"
            case "int":
                width = width_of(part.texts)
                text += f"(?P<{named.name}>" + (rf"\d{{{width}}})" if width else r"\d+)")
            case "time" | "text":
                width = width_of(part.texts)
                text += f"(?P<{named.name}>" + (rf"[^/]{{{width}}})" if width else r"[^\W_]+?)")
    return text + "$"


def exclude_globs(strays: Sequence[str], members: Sequence[str]) -> list[str] | None:
    """Return globs that take all strays and none of the members, None where there are none. Pure.

    >>> exclude_globs(["x_thumb1.tif", "x_thumb2.tif"], ["x_1.tif"])
    ['*thumb*']
    """
    globs: list[str] = []
    for make in group_makes(strays):
        kind = [strays[row] for row in make.rows]
        wide = "*thumb*" if all("thumb" in name for name in kind) else ""
        glob = next((g for g in (wide, _glob_of(make)) if g and not _takes(g, members)), None)
        if glob is not None:
            globs.append(glob)
        elif len(kind) <= 20:
            globs += [_escape(name) for name in kind]
        else:
            return None
    return list(dict.fromkeys(globs))


def _glob_of(make: Make) -> str:
    text = ""
    for column in make.columns:
        texts = list(dict.fromkeys(column))
        start = _common_start(texts)
        text += _escape(texts[0]) if len(texts) == 1 else f"{_escape(start)}*"
    return re.sub(r"\*+", "*", text)


def _common_start(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    n = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low[:n]


def _escape(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _takes(glob: str, names: Sequence[str]) -> bool:
    takes = re.compile(translate(glob)).match
    return any(takes(name) or takes(name.rpartition("/")[2]) for name in names)
