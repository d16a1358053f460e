"""Calibration in the private tags and descriptions of microscopes and slide scanners.

One small reader per vendor; tifffile parses the structures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from intake_tiffstack.metadata.reader import OpenImage, Reader, copy_dict
from intake_tiffstack.metadata.units import as_number

if TYPE_CHECKING:
    from intake_tiffstack.metadata.model import Findings
    from intake_tiffstack.metadata.reader import Subject

__all__ = ["FEI", "FLUOVIEW", "GATAN", "LSM", "NDPI", "SCANIMAGE", "SIS", "SVS", "ZEISS_SEM"]


def _add_metres(found: Findings, dim: str, metres: Any, source: str, key: str) -> None:
    """Add a step in micrometre; 0 means that none is known."""
    number = as_number(metres)
    if number:
        found.add_step(dim, round(number * 1e6, 12), "micrometer", source, key)


# -- Olympus FluoView, Andor iQ ------------------------------------------------------------------

_FLUOVIEW_DIMS = {"X": "x", "Y": "y", "Z": "z", "T": "t", "TIME": "t"}


def extract_fluoview(image: OpenImage) -> list[list[Any]] | None:
    """Return name, size, origin, resolution and unit of each dim of the header."""
    found = image.tif.fluoview_metadata if image.is_first else None
    return [list(dim) for dim in found["Dimensions"]] if found and "Dimensions" in found else None


def interpret_fluoview(dims: Sequence[Sequence[Any]], _: Subject, found: Findings) -> None:
    """Read the resolution of each dim in its own unit."""
    for name, _size, _origin, resolution, unit in dims:
        dim, step = _FLUOVIEW_DIMS.get(str(name).upper()), as_number(resolution)
        if dim is None or not step:
            continue
        if dim == "t":
            found.add_interval(abs(step), unit, "FluoView", "Resolution")
        else:
            name_of_unit = found.read_unit(unit, "FluoView")
            found.add_step(dim, abs(step), name_of_unit, "FluoView", "Resolution")


# -- Zeiss LSM -----------------------------------------------------------------------------------

_LSM_KEYS = ("VoxelSizeX", "VoxelSizeY", "VoxelSizeZ", "TimeIntervall", "ChannelColors")


def extract_lsm(image: OpenImage) -> dict[str, Any] | None:
    """Return what CZ_LSMINFO says of sizes, times and channels."""
    info = copy_dict(image.tif.lsm_metadata) if image.is_first else None
    if info is None:
        return None
    found = {key: info[key] for key in _LSM_KEYS if key in info}
    times, scan = info.get("TimeStamps"), info.get("ScanInformation")
    if times is not None:
        found["TimeStamps"] = times.tolist()
    if isinstance(scan, Mapping) and isinstance(scan.get("Objective"), str):
        found["Objective"] = scan["Objective"]
    return found


def interpret_lsm(info: Mapping[str, Any], subject: Subject, found: Findings) -> None:
    """Read sizes in metres, times in seconds, and the names and colours of channels."""
    source = "LSM"
    for dim in "zyx":
        key = f"VoxelSize{dim.upper()}"
        _add_metres(found, dim, info.get(key), source, key)
    found.add_interval(info.get("TimeIntervall", 0), "s", source, "TimeIntervall")
    times = info.get("TimeStamps") or []
    if len(times) == subject.sizes.get("t", 1):
        found.add_times([round(time - times[0], 9) for time in times], source)
    channels = info.get("ChannelColors")
    if isinstance(channels, Mapping):
        found.add_channels("channel_names", channels.get("ColorNames", ()), source)
        colors = ["#{:02x}{:02x}{:02x}".format(*color[:3]) for color in channels.get("Colors", ())]
        found.add_channels("channel_colors", colors, source)
    found.add_fact("objective", {"model": info.get("Objective")}, source)


# -- electron microscopes: FEI, Zeiss, Gatan -----------------------------------------------------


def extract_fei(image: OpenImage) -> dict[str, Any] | None:
    """Return the sections of FEI's header."""
    tags = image.page.tags
    found = (copy_dict(tags.valueof(34680)) or {}) | (copy_dict(tags.valueof(34682)) or {})
    return found or None


def interpret_fei(sections: Mapping[str, Any], _: Subject, found: Findings) -> None:
    """Read the size of a pixel in metres, from the scan or that of the beam in use."""
    known = [section for section in sections.values() if isinstance(section, Mapping)]
    first = sections.get("Scan")
    scans = [first, *known] if isinstance(first, Mapping) else known
    scan = next((scan for scan in scans if "PixelWidth" in scan), {})
    _add_metres(found, "x", scan.get("PixelWidth"), "FEI", "PixelWidth")
    _add_metres(found, "y", scan.get("PixelHeight"), "FEI", "PixelHeight")
    system = sections.get("System")
    if isinstance(system, Mapping):
        model = system.get("SystemType", system.get("Type"))
        found.add_fact("instrument", {"manufacturer": "FEI", "model": model}, "FEI")


def extract_zeiss_sem(image: OpenImage) -> dict[str, Any] | None:
    """Return the parameters of a Zeiss SEM: name, value and unit of each."""
    return copy_dict(image.page.tags.valueof(34118))


def interpret_zeiss_sem(tags: Mapping[str, Any], _: Subject, found: Findings) -> None:
    """Read the size of a pixel of the image, in its own unit; old ones have it in metres."""
    source, unnamed = "Zeiss SEM", tags.get("", ())
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = tags.get(key, ())
        if len(entry) == 3:
            unit = found.read_unit(entry[2], source)
            for dim in "yx":
                found.add_step(dim, entry[1] or None, unit, source, key)
    if len(unnamed) > 3:
        for dim in "yx":
            _add_metres(found, dim, unnamed[3], source, "pixel size")


_GATAN_UNITS = {"x": 65003, "y": 65004, "z": 65005}
_GATAN_SCALES = {"x": 65009, "y": 65010, "z": 65011}


def extract_gatan(image: OpenImage) -> dict[str, list[Any]] | None:
    """Return the step and unit of each dim that Digital Micrograph writes."""
    found: dict[str, list[Any]] = {}
    for dim, code in _GATAN_SCALES.items():
        step, unit = image.page.tags.valueof(code), image.text(_GATAN_UNITS[dim])
        if isinstance(step, float) and unit is not None:
            found[dim] = [step, unit.strip("\0 ")]
    return found or None


def interpret_gatan(dims: Mapping[str, Sequence[Any]], subject: Subject, found: Findings) -> None:
    """Read the steps; z only if there is a z, since an image has a 1 there."""
    for dim, (step, text) in dims.items():
        if dim != "z" or subject.sizes.get("z", 1) > 1:
            unit = found.read_unit(text, "Gatan")
            found.add_step(dim, step or None, unit, "Gatan", f"scale of {dim}")


# -- Olympus SIS ---------------------------------------------------------------------------------


def extract_sis(image: OpenImage) -> dict[str, Any] | None:
    """Return what tifffile knows of the tag OlympusSIS."""
    return copy_dict(image.page.tags.valueof(33560))


def interpret_sis(tags: Mapping[str, Any], _: Subject, found: Findings) -> None:
    """Read the size of a pixel in metres, the magnification and when it was taken."""
    for dim in "yx":
        key = f"pixelsize{dim}"
        _add_metres(found, dim, tags.get(key), "SIS", key)
    found.add_time("acquired", tags.get("datetime"), "SIS")
    found.add_fact("objective", {"magnification": tags.get("magnification") or None}, "SIS")
    found.add_fact("instrument", {"model": tags.get("cameraname")}, "SIS")


# -- slide scanners: Aperio SVS, Hamamatsu NDPI --------------------------------------------------


def extract_svs(image: OpenImage) -> dict[str, Any] | None:
    """Return the parameters in Aperio's description."""
    if not image.page.is_svs:
        return None
    from tifffile import tifffile

    return copy_dict(tifffile.svs_description_metadata(image.page.description))


def interpret_svs(tags: Mapping[str, Any], _: Subject, found: Findings) -> None:
    """Read the micrometres per pixel; a thumbnail has those of the scan that it was made of."""
    source = "SVS"
    reduced = re.search(r"(\d{1,9})x\d+ -> (\d{1,9})x\d+", str(tags.get("Header", "")))
    size = as_number(tags.get("MPP"))
    if size:
        by = int(reduced[1]) / int(reduced[2]) if reduced and int(reduced[2]) else 1
        for dim in "yx":
            found.add_step(dim, size * by, "micrometer", source, "MPP")
    found.add_fact("objective", {"magnification": as_number(tags.get("AppMag"))}, source)
    found.add_fact("instrument", {"model": tags.get("ScanScope ID")}, source)
    written = f"{tags.get('Date', '')} {tags.get('Time', '')}"
    for form in ("%m/%d/%y %H:%M:%S", "%m/%d/%Y %H:%M:%S"):
        try:
            found.add_time("acquired", datetime.strptime(written, form), source)
        except ValueError:  # the other form, or none
            continue


def extract_ndpi(image: OpenImage) -> dict[str, Any] | None:
    """Return the lens, the focal plane and the scanner."""
    if not image.page.is_ndpi:
        return None
    tags = image.page.tags
    found = {
        "Magnification": tags.valueof(65421),
        "ZOffsetFromSlideCenter": tags.valueof(65424),
        "ScannerSerialNumber": image.text(65442),
        "Make": image.text(271),
        "Model": image.text(272),
    }
    return {key: value for key, value in found.items() if value is not None}


def interpret_ndpi(tags: Mapping[str, Any], subject: Subject, found: Findings) -> None:
    """Read the resolution tags as they stand: a scanner calibrates them. Heights are nanometres."""
    source, resolution = "NDPI", subject.tags.get("resolution")
    if resolution is not None and resolution[2] == "centimeter":
        for dim, per_cm in zip("xy", resolution[:2], strict=True):
            if per_cm > 0:
                found.add_step(dim, 1e4 / per_cm, "micrometer", source, "pixel size")
    lens, height = (
        as_number(tags.get("Magnification")),
        as_number(tags.get("ZOffsetFromSlideCenter")),
    )
    found.add_fact("objective", {"magnification": lens if lens and lens > 0 else None}, source)
    if height is not None and subject.sizes.get("z", 1) == 1:
        found.add_heights([height], "nanometer", source)
    scanner = {
        "manufacturer": tags.get("Make"),
        "model": tags.get("Model"),
        "serial_number": tags.get("ScannerSerialNumber"),
    }
    found.add_fact("instrument", scanner, source)


# -- ScanImage -----------------------------------------------------------------------------------


def extract_scanimage(image: OpenImage) -> dict[str, Any] | None:
    """Return the settings of ScanImage: its header's, else those of the first frame."""
    if not image.page.is_scanimage:
        return None
    from tifffile import tifffile

    header = image.tif.scanimage_metadata or {}
    found = copy_dict(header.get("FrameData"))
    if not found:
        text = image.page.software if image.page.software[:3] == "SI." else image.page.description
        found = copy_dict(tifffile.matlabstr2py(text))
    return found or None


def interpret_scanimage(tags: Mapping[str, Any], subject: Subject, found: Findings) -> None:
    """Read the field of view, the distance of slices, the frame period and the channels' names."""
    source = "ScanImage"

    def get(*keys: str) -> Any:
        return next((tags[key] for key in keys if key in tags), None)

    corners = get("SI.hRoiManager.imagingFovUm")
    if isinstance(corners, Sequence) and all(isinstance(c, Sequence) for c in corners):
        for i, dim in enumerate("xy"):
            along = [
                n for c in corners if (n := as_number(c[i] if len(c) == 2 else None)) is not None
            ]
            if along and max(along) > min(along) and dim in subject.sizes:
                size = (max(along) - min(along)) / subject.sizes[dim]
                found.add_step(dim, size, "micrometer", source, "imagingFovUm")
    distance = as_number(
        get("SI.hStackManager.actualStackZStepSize", "SI.hStackManager.stackZStepSize",
            "scanimage.SI5.stackZStepSize", "scanimage.SI4.stackZStepSize")
    )  # fmt: skip
    if distance and subject.sizes.get("z", 1) > 1:
        found.add_step("z", abs(distance), "micrometer", source, "stackZStepSize")
    period = as_number(get("SI.hRoiManager.scanFramePeriod"))
    rate = as_number(get("scanimage.SI5.scanFrameRate", "scanimage.SI4.scanFrameRate"))
    averaged = as_number(
        get("SI.hScan2D.logAverageFactor", "scanimage.SI5.acqNumAveragedFrames",
            "scanimage.SI4.acqNumAveragedFrames")
    )  # fmt: skip
    if get("SI.hFastZ.enable") is True:
        period, rate, averaged = None, as_number(get("SI.hRoiManager.scanVolumeRate")), None
    interval = (period or (1 / rate if rate else 0)) * (averaged or 1)
    found.add_interval(interval, "s", source, "frame period")
    names, saved = get("SI.hChannels.channelName"), get("SI.hChannels.channelSave")
    saved = [saved] if isinstance(saved, int) else saved
    if isinstance(names, Sequence) and isinstance(saved, Sequence) and not isinstance(names, str):
        numbers = [n[0] if isinstance(n, Sequence) and n else n for n in saved]
        if all(isinstance(n, int) and 0 < n <= len(names) for n in numbers):
            found.add_channels("channel_names", [_text(names[n - 1]) for n in numbers], source)


def _text(value: Any) -> str:
    return _text(value[0]) if isinstance(value, list) and value else str(value)


FLUOVIEW = Reader("fluoview", extract_fluoview, interpret_fluoview)
LSM = Reader("lsm", extract_lsm, interpret_lsm)
FEI = Reader("fei", extract_fei, interpret_fei)
ZEISS_SEM = Reader("zeiss_sem", extract_zeiss_sem, interpret_zeiss_sem)
GATAN = Reader("gatan", extract_gatan, interpret_gatan)
SIS = Reader("sis", extract_sis, interpret_sis)
SVS = Reader("svs", extract_svs, interpret_svs)
NDPI = Reader("ndpi", extract_ndpi, interpret_ndpi)
SCANIMAGE = Reader("scanimage", extract_scanimage, interpret_scanimage)
