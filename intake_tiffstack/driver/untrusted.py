"""Catalogs from others: opened only if their text holds data and no program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from intake.catalog.exceptions import CatalogException
from intake.catalog.local import YAMLFileCatalog, get_dir

from intake_tiffstack.driver.entries import yaml_fault
from intake_tiffstack.errors import EntryError, OptionError
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.settings import setting
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.storage.failures import storage_errors
from intake_tiffstack.storage.filesystem import get_filesystem

__all__ = ["UntrustedCatalog", "open_untrusted_catalog"]

_DRIVERS = frozenset({"tiffstack", "tiffstack_zarr"})
_TOP_KEYS = frozenset({"description", "metadata", "name", "sources", "version"})
_ENTRY_KEYS = frozenset({"args", "description", "driver", "metadata", "parameters"})
_PARAMETER_KEYS = frozenset({"allowed", "default", "description", "max", "min", "type"})
_PARAMETER_TYPES = frozenset({"bool", "datetime", "float", "int", "list", "str", "unicode"})
_REFUSED_OPTIONS = {
    "arraytype": "it may import a class",
    "header_index": "opening writes that file",
    "metadata": "it belongs beside the arguments",
}
_FAULTS = (
    *(CatalogException, ArithmeticError, AttributeError, LookupError, MemoryError),
    *(RecursionError, SyntaxError, TypeError, ValueError, yaml.YAMLError),
)
"""What Intake raises for entries that it does not understand."""

_TEMPLATE = re.compile(r"\{\{\s*(?:env\(\s*(\w+)\s*\)|(\w+))\s*\}\}")
_BEGINS_TEMPLATE = re.compile(r"\{[{%#]")
_ENV_DEFAULT = re.compile(r"\s*env\(\s*(\w+)\s*\)\s*")
_CALL = re.compile(r"(?:env|shell)\(")


def open_untrusted_catalog(
    url: str, *, storage_options: Mapping[str, Any] | None = None
) -> UntrustedCatalog:
    """Return an Intake catalog, after its text was checked to be data and no program.

    Refused are templates other than the name of a parameter, ``CATALOG_DIR``, or ``env(NAME)`` of
    a variable in the setting ``allow_variables``; drivers other than those of this package,
    plugins and caches; and options that import code or write files. The text is checked again
    each time that Intake loads it. Which protocols are opened is the setting ``allow_protocols``.

    Parameters
    ----------
    url : str
        Path or fsspec URL of the YAML file.
    storage_options : mapping of str, optional
        Passed to fsspec for the file of the catalog.

    Raises
    ------
    OptionError
        If the setting ``allow_protocols`` is not set.
    EntryError
        If the catalog holds anything that is refused; the message names the entry.
    StorageError
        If the file cannot be read (a FilesNotFoundError if it does not exist).

    Examples
    --------
    >>> import dask
    >>> from intake_tiffstack import add_to_catalog, open_stack
    >>> add_to_catalog(open_stack("raw/*.tif", pattern="lattice"), "theirs.yml", "scan")
    >>> with dask.config.set({"tiffstack.allow_protocols": ["file"]}):
    ...     open_untrusted_catalog("theirs.yml").scan.to_dask().shape
    (3, 2, 8, 64, 48)
    """
    if setting("allow_protocols") is None:
        raise OptionError(
            f"{url}: a catalog that is not trusted needs the setting allow_protocols, as in "
            "dask.config.set({'tiffstack.allow_protocols': ['file', 'https']}): without it, an "
            "entry may open every protocol"
        )
    return UntrustedCatalog(url, storage_options=dict(storage_options or {}))


class UntrustedCatalog(YAMLFileCatalog):  # type: ignore[misc]
    """A catalog in a YAML file whose text is checked before Intake sees it."""

    name = "tiffstack_untrusted"

    def _load(self, reload: bool = False) -> None:
        """Read the file, within the settings ``timeout`` and ``retries``, and make its entries."""
        if not self.access or not (self.autoreload or reload):
            super()._load(reload)
            return
        url, options = str(self.path), self.storage_options or {}
        filesystem, path = get_filesystem(url, options, is_trusted=True)
        with storage_errors(url, options):
            content: bytes = ask(filesystem, "cat_file", path)
        try:
            text = content.decode()
        except UnicodeDecodeError as exc:
            raise EntryError(f"{url} is not YAML: {exc.reason} at byte {exc.start:,}") from None
        self._dir = get_dir(self.path)
        self.parse(text)

    def parse(self, text: str) -> None:
        """Make the entries of a text.

        Raises
        ------
        EntryError
            If it holds anything but data.
        """
        url = str(self.path)
        check_catalog(text, url, str(self._dir))
        try:
            super().parse(text)
        except _FAULTS as exc:  # whose text shows values
            raise EntryError(
                f"{url} is no catalog that Intake reads: {type(exc).__name__}"
            ) from None


def check_catalog(text: str, url: str, folder: str) -> None:
    """Raise EntryError if a catalog holds anything but entries of this package. Pure.

    Parameters
    ----------
    text : str
    url : str
    folder : str
        The value of ``CATALOG_DIR``.
    """
    if _BEGINS_TEMPLATE.search(url) or _BEGINS_TEMPLATE.search(folder):
        raise EntryError(f"{url} in {folder}: its own name is a template, which Intake renders")
    try:
        catalog = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise EntryError(f"{url} is not YAML: {yaml_fault(exc)}") from None  # its text shows lines
    except RecursionError as exc:
        raise EntryError(f"{url} is nested too deeply") from exc
    _refuse_repetition(catalog, len(text), url)
    _require_keys(catalog, _TOP_KEYS, url)
    for at_top in catalog.keys() - {"sources"}:
        _check_texts(catalog[at_top], frozenset(), f"{url}: {at_top!r}")
    metadata = catalog.get("metadata") or {}
    _require_mapping(metadata, f"{url}: 'metadata'")
    _check_parameters(metadata.get("parameters"), f"{url}: 'metadata'")  # of all entries
    sources = catalog.get("sources") or {}
    _require_mapping(sources, f"{url}: 'sources'")
    for name, entry in sources.items():
        _check_entry(name, entry, f"{url}: entry {name!r}")


def _check_entry(name: Any, entry: Any, where: str) -> None:
    _require_keys(entry, _ENTRY_KEYS, where)
    if (driver := entry.get("driver")) not in tuple(_DRIVERS):  # it may be a dict
        _refuse(where, f"the driver {driver!r}", f"only {sorted(_DRIVERS)} are opened")
    for place in ("args", "metadata"):
        _require_mapping(entry.get(place) or {}, f"{where}: {place!r}")
    parameters = _check_parameters(entry.get("parameters"), where)
    # a parameter of the name of an option sets it
    given = (entry.get("args") or {}).keys() | parameters.keys()
    for option in given & _REFUSED_OPTIONS.keys():
        _refuse(where, f"the option {option!r}", _REFUSED_OPTIONS[option])
    if "cache" in (entry.get("metadata") or {}):
        _refuse(where, "a cache in its metadata", "Intake would write files")
    _check_texts({name: entry}, frozenset({*parameters, "CATALOG_DIR"}), where)


def _check_parameters(parameters: Any, where: str) -> Mapping[str, Any]:
    """Return the parameters of an entry or of all, each of them checked."""
    found: Mapping[str, Any] = parameters or {}
    _require_mapping(found, f"{where}: 'parameters'")
    for parameter, described in found.items():
        at = f"{where}, parameter {parameter!r}"
        _require_keys(described, _PARAMETER_KEYS, at)
        if described.get("type", "str") not in tuple(_PARAMETER_TYPES):
            _refuse(at, f"the type {described['type']!r}", f"known are {sorted(_PARAMETER_TYPES)}")
        _check_default(described.get("default"), at)
    return found


def _refuse_repetition(catalog: Any, most: int, url: str) -> None:
    """Refuse aliases that make more values than the text has characters, or a circle. Pure."""
    number, values = 0, [catalog]
    while values:
        value = values.pop()
        number += 1
        if number > most + 1:
            raise EntryError(
                f"{url} makes more values by aliases than it has characters; write them out"
            )
        if isinstance(value, Mapping):
            values += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            values += value


def _check_default(default: Any, where: str) -> None:
    """Refuse a default that calls a function: Intake calls env() and shell() without braces."""
    for text in _texts(default):
        asked = _ENV_DEFAULT.fullmatch(text)
        if asked:
            _require_variable(asked[1], where)
        elif _CALL.search(text):
            _refuse(where, f"the default {hide_in_text(text)!r}", "Intake would call the function")


def _check_texts(value: Any, names: frozenset[str], where: str) -> None:
    """Refuse templates in a value other than the names in *names* and allowed variables."""
    for text in _texts(value):
        for variable, name in _TEMPLATE.findall(text):
            if variable:
                _require_variable(variable, where)
            elif name not in names:
                _refuse(where, f"the template name {name!r}", "it is not a parameter of the entry")
        if _BEGINS_TEMPLATE.search(_TEMPLATE.sub("", text)):
            _refuse(
                where,
                f"the template {hide_in_text(text)!r}",
                "only names of parameters, CATALOG_DIR and env(NAME) may stand in braces",
            )


def _require_variable(name: str, where: str) -> None:
    if name not in setting("allow_variables"):
        _refuse(where, f"the environment variable {name!r}", "the setting allow_variables lacks it")


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a value, keys too."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _require_mapping(value: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        _refuse(where, f"{type(value).__name__} in place of a mapping", "it is not understood")


def _require_keys(value: Any, known: frozenset[str], where: str) -> None:
    _require_mapping(value, where)
    unknown = [key for key in value if key not in known]
    if unknown:
        _refuse(where, f"the key {unknown[0]!r}", f"known are {sorted(known)}")


def _refuse(where: str, what: str, why: str) -> None:
    raise EntryError(f"{where} has {what}, which is refused in an untrusted catalog: {why}")
