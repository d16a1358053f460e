"""Names that acquisition software writes, each as a pattern under a short name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """One known way of naming files."""

    #: A format string or a regex, as ``pattern`` takes it.
    pattern: str
    #: Who writes such names, and what to know of them.
    description: str
    #: Paths, relative to the folder that is opened, that the pattern reads.
    examples: tuple[str, ...]
    #: Format of each group of a regex that holds a time or an elapsed time.
    times: Mapping[str, str] = field(default_factory=dict)


# Folders are optional where a user may as well open the innermost one; a field whose part is in
# no name is then no field. Extensions are matched in any case, since vendors mix .tif and .TIF.
PRESETS: dict[str, Preset] = {
    "lattice": Preset(
        "{}_Cam{cam}_ch{c:d}_CAM1_stack{t:d}_{wavelength:d}nm_{msec:d}msec_{abs:d}msecAbs"
        "_{tx:d}x_{ty:d}y_{tz:d}z_{tt:d}t.tif",
        "Lattice light-sheet microscope (LabVIEW): one volume a file.",
        (
            "ex6-2_CamA_ch1_CAM1_stack0000_560nm_0000000msec_0001291795msecAbs"
            "_000x_000y_000z_0000t.tif",
        ),
    ),
    "micromanager": Preset(
        # Version 1.4 has the position's label as the folder and the channel's name in the file.
        r"(?<![^/])(?:(?P<pos>[^/]+)/(?=img_\d))?"
        r"img_(?:channel(?P<c>\d+)_position(?P<position>\d+)_time)?(?P<t>\d+)"
        r"_(?:z|(?P<channel>[^/]+)_)(?P<z>\d+)\.(?i:tiff?)$",
        "Micro-Manager, separate image files, of version 2 and of 1.4.",
        (
            "Default/img_channel000_position000_time000000000_z000.tif",
            "Pos0/img_000000000_Default_000.tif",
        ),
    ),
    "imagexpress": Preset(
        # The GUID follows the wavelength with nothing between; its first block is eight long, so
        # there is one reading. What it cannot match are thumbnails (``_w1_thumb...``). A well in
        # lower case has a site, a wavelength or a GUID behind it: c01 alone is rather a channel.
        r"(?:(?<![^/])(?i:TimePoint)_(?P<t>\d+)/)?(?:(?<![^/])(?i:ZStep)_(?P<z>\d+)/)?"
        r"(?<![^/])(?:[^/]*?_)??"
        r"(?P<well>[A-Z]{1,2}\d{2}|(?:[a-p]|a[a-f])\d{2}(?=_[sw]\d|[0-9A-Fa-f]{8}-))"
        r"(?:_s(?P<site>\d+))?(?:_w(?P<c>\d+))?"
        r"(?:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})?\.(?i:tiff?)$",
        "Molecular Devices ImageXpress (MetaXpress); thumbnails are left out.",
        (
            "TimePoint_1/plate_C07_s1_w1D5F8F51A-3E85-4358-AE51-A465AF87386F.tif",
            "TimePoint_1/ZStep_2/plate_A01_s1_w2.TIF",
            "plate_B02_s1.tif",
            "plate_b02_s1_w1.tif",
        ),
    ),
    "cv8000": Preset(
        r"(?:^|[/_])(?P<well>[A-Z]{1,2}\d{2})_T(?P<t>\d{4})F(?P<field>\d{3})"
        r"L(?P<timeline>\d{2})A(?P<action>\d{2})Z(?P<z>\d{2})C(?P<c>\d{2})\.(?i:tiff?)$",
        "Yokogawa CellVoyager 7000 and 8000.",
        ("plate_D08_T0001F001L01A01Z01C01.tif",),
    ),
    "harmony": Preset(
        "r{row:02d}c{column:02d}f{field:02d}p{z:02d}-ch{c:d}sk{t:d}fk{fk:d}fl{fl:d}.tiff",
        "Revvity (PerkinElmer) Harmony: Opera Phenix, Operetta CLS.",
        ("Images/r01c01f01p01-ch1sk1fk1fl1.tiff",),
    ),
    "incell": Preset(
        # The channel ends where a plane or a time begins: it must not swallow them.
        r"(?:^|[/_])(?P<row>[A-Z]{1,2}) - (?P<column>\d+)\(fld (?P<field>\d+)"
        r" wv (?P<c>(?:(?!(?: -)? (?:z|time) \d)[^()/])+)(?:(?: -)? z (?P<z>\d+))?"
        r"(?:(?: -)? time (?P<t>\d+)(?: - (?P<ms>\d+) ?ms)?)?\)\.(?i:tiff?)$",
        "GE (Cytiva) IN Cell Analyzer; the channel is excitation - emission.",
        (
            "A - 01(fld 01 wv DAPI - DAPI).tif",
            "B - 2(fld 1 wv Cy3 - Cy3 z 1).tif",
            "B - 02(fld 01 wv Blue - FITC - time 01 - 0 ms).tif",
            "A - 01(fld 1 wv UV - DAPI z 3 time 2 - 2636ms).tif",
            "Plate1_B - 01(fld 1 wv 390 - Blue).tif",
        ),
    ),
    "scanr": Preset(
        r"(?<![^/])(?:(?P<well>[A-Z]{1,2}\d{1,2})?--)?W(?P<w>\d{5})--P(?P<position>\d{5})"
        r"--Z(?P<z>\d{5})--T(?P<t>\d{5})--(?P<channel>[^/]+)\.(?i:tiff?)$",
        "Olympus (Evident) ScanR; the well is numbered, and named where it has a label.",
        (
            "--W00001--P00001--Z00000--T00000--cherry.tif",
            "data/B3--W00015--P00002--Z00001--T00004--Alexa 488.tif",
        ),
    ),
    "incucyte": Preset(
        r"(?<![^/])(?:(?P<prefix>[^/]*)_)?(?P<well>[A-Z]{1,2}\d{1,2})_(?P<site>\d+)"
        r"_(?:(?P<t>\d+d\d\dh\d\dm)|(?P<time>\d{4}y\d\dm\d\dd_\d\dh\d\dm))\.(?i:tiff?)$",
        "Sartorius Incucyte, exported images: the time elapsed, or the date.",
        ("Phase_A2_1_00d12h30m.tif", "Phase_A2_1_2019y08m01d_10h30m.tif"),
        {"t": "%dd%Hh%Mm", "time": "%Yy%mm%dd_%Hh%Mm"},
    ),
    "incucyte-archive": Preset(
        r"(?<![^/])(?P<time>\d{4}/\d{2}/\d{4})/(?P<plate>\d+)"
        r"/(?P<well>[A-Z]{1,2}\d{1,2})-(?P<site>\d+)-(?P<channel>[A-Za-z0-9]+)\.(?i:tiff?)$",
        "Sartorius Incucyte, an archive of scans: year and month, day, time, vessel.",
        ("EssenFiles/ScanData/2505/16/0830/1234/A1-1-Ph.tif", "2505/16/0830/1234/B12-2-C1.tif"),
        {"time": "%y%m/%d/%H%M"},
    ),
    "ctc": Preset(
        "{sequence:02d}/t{t:03d}.tif",
        "Cell Tracking Challenge: the images of a sequence, no masks.",
        ("01/t000.tif", "BF-C2DL-HSC/02/t1763.tif"),
    ),
}
