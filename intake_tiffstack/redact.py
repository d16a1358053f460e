"""Redaction of credentials in options, URLs and messages. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

__all__ = [
    "OF_STORES",
    "escape_template",
    "hide_credentials",
    "hide_in_text",
    "hide_secrets",
    "mask_secrets",
    "secret_texts",
]

OF_STORES = frozenset({"storage_options", "remote_options", "target_options"})
"""Options for fsspec. What each filesystem calls a secret is not known, so that all values below
are secrets except switches and those of known names."""

_HARMLESS_OPTIONS = frozenset(
    # where the data are, and in which state
    {"account_host", "account_name", "base_url", "branch", "endpoint", "endpoint_url", "fo"}
    | {"host", "hostname", "instance", "location", "org", "path", "port", "profile", "project"}
    | {"protocol", "ref", "region", "region_name", "remote_protocol", "repo", "rev", "revision"}
    | {"sha", "target_protocol", "url", "version_aware"}
    # how it is transferred and kept
    | {"addressing_style", "api_version", "batch_size", "block_size", "cache_check"}
    | {"cache_regions", "cache_size", "cache_storage", "cache_type", "check_files", "compression"}
    | {"connect_timeout", "default_block_size", "default_cache_type", "encoding", "expiry_time"}
    | {"fixed_upload_size", "listings_expiry_time", "max_attempts", "max_block"}
    | {"max_concurrency", "max_gap", "max_paths", "max_pool_connections", "mode"}
    | {"read_timeout", "retries", "signature_version", "size_policy", "timeout", "verify"}
)
"""Storage options whose values are shown."""

_SECRET_NAME = re.compile(
    r"(^|_)(key|pkey|secret|token|pass|passwd|pwd|auth|sas|sig|cookie|private|connection_string)($|_)"
    r"|secret|passw|passphrase|authorization|credential|signature|apikey"
)
_OPEN_NAME = re.compile(r"key_?(file|path|name)$|^(anon|public|token_type)")
_WELL_KNOWN = {
    "key": "AWS_ACCESS_KEY_ID",
    "secret": "AWS_SECRET_ACCESS_KEY",
    "token": "AWS_SESSION_TOKEN",
}
# Each begins with what is rare: a text may be 100 kB long, and no part of it is read twice.
_USER_INFO = re.compile(
    r"(?:(?<=[A-Za-z0-9+.-]):|(?<![^\s'\"(=]))//(?:[^/@:\s?#]*:)?(?P<value>[^/\s?#]+)@"
)
_VALUE = r"(?P<value>(?:(?!::)[^&\s])+)"
_PARAMETER = re.compile(rf"[?&](?P<name>[^=&\s?/#]+)={_VALUE}")
_OF_PATH = re.compile(r"[;#](?P<name>[\w-]+)=(?P<value>[^;#?&\s/]+)")
"""Such as ``a.tif;jsessionid=x1`` and ``a.tif#access_token=x1``."""

_WEB = re.compile(r"https?://(?:(?!https?://)[^\s?])*\?(?P<query>\S*)", re.IGNORECASE)
_BARE = re.compile(r"(?:\A|&)(?P<value>[\w.%~+/-]{8,}=*)(?=[&'\",;:)]|\Z)")
"""A part of a query that is one word is a token as often as not."""

_CREDENTIAL = re.compile(
    r"[\w.-]*(?:signature|sig|token|credential|key|keyid|password|secret|auth)$", re.IGNORECASE
)
_HARMLESS = frozenset({"versionid", "version_id", "sha", "generation"})
"""Parameters of a URL that say which version of a file is meant, and are shown."""

_is_version = re.compile(r"[\w.~-]+[)'\",;:]*\Z").match

_TO_ESCAPE = re.compile(r"\{(?=[{%#\r\n]|\Z)|\r|\n\Z|!(?=template )")  # Intake drops "!template "


def escape_template(value: Any) -> Any:
    """Return *value* so that a template of Jinja renders it back as it is. Pure.

    Examples
    --------
    >>> escape_template("A {{1+1}}")
    "A {{ '{' }}{1+1}}"
    >>> escape_template({"c": ["DAPI", "{%"]})
    {'c': ['DAPI', "{{ '{' }}%"]}
    """
    if isinstance(value, Mapping):  # Intake does not render the keys
        return {k: escape_template(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [escape_template(v) for v in value]
    return _TO_ESCAPE.sub(_quote, value) if isinstance(value, str) else value


def _quote(found: re.Match[str]) -> str:
    return f"{{{{ {found[0]!r} }}}}"


def mask_secrets(value: Any, name: str = "", *, is_literal: bool = False) -> Any:
    """Return *value* with each secret replaced by ``{{ env(NAME) }}``. Pure.

    A value is a secret because of its key (``secret``, ``password``, ``X-Api-Key`` ...), because it
    is a storage option that is not known to be harmless, or as the user information or a parameter
    inside a URL, except those that name a version of a file.

    Parameters
    ----------
    value : object
        Text, or a mapping or list of values.
    name : str
        Its key.
    is_literal : bool
        Whether braces in *value* mean braces: the result is then a template that renders them.
        Otherwise *value* may be a template itself, which is kept.

    Examples
    --------
    >>> mask_secrets({"key": "AKIA", "anon": False, "client_kwargs": {"password": "x"}})
    {'key': '{{ env(AWS_ACCESS_KEY_ID) }}', 'anon': False, 'client_kwargs': {'password': \
'{{ env(PASSWORD) }}'}}
    >>> mask_secrets({"storage_options": {"profile": "lab", "s3": {"hmac": "x"}}})
    {'storage_options': {'profile': 'lab', 's3': {'hmac': '{{ env(HMAC) }}'}}}
    >>> mask_secrets("http://me:word@host/a.tif?pwd=x&versionId=3")
    'http://me:{{ env(URL_PASSWORD) }}@host/a.tif?pwd={{ env(URL_PWD) }}&versionId=3'
    >>> mask_secrets("A {{1+1}}", is_literal=True)
    "A {{ '{' }}{1+1}}"
    """
    return _mask_value(value, name, is_literal, is_of_store=name in OF_STORES)


def _mask_value(value: Any, name: str, is_literal: bool, is_of_store: bool) -> Any:
    if isinstance(value, Mapping):
        return {
            k: _mask_value(
                v,
                name if _is_secret(name) else str(k),
                is_literal,
                is_of_store or str(k) in OF_STORES,
            )
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_mask_value(v, name, is_literal, is_of_store) for v in value]
    is_text = isinstance(value, str)
    if _is_hidden(value, name, is_of_store):
        return value if is_text and "{{" in value and not is_literal else _ask(name)
    if is_text:
        found = _secrets_in(value)
        if not is_literal:
            found = [secret for secret in found if not value.startswith("{{", secret.start)]
        keep = escape_template if is_literal else str
        return _mask(value, found, lambda variable: f"{{{{ env({variable}) }}}}", keep)
    return value


def hide_secrets(value: Any) -> Any:
    """Return *value* for display: secrets in mappings and URLs as ``***``. Pure.

    >>> hide_secrets({"secret": "x", "urls": ("http://h/a.tif?pwd=x", "a.tif")})
    {'secret': '***', 'urls': ('http://h/a.tif?pwd=***', 'a.tif')}
    >>> hide_secrets({"storage_options": {"anon": True, "headers": {"X-Odd": "x"}}})
    {'storage_options': {'anon': True, 'headers': {'X-Odd': '***'}}}
    """
    return _hide_value(value, "", is_of_store=False)


def _hide_value(value: Any, name: str, is_of_store: bool) -> Any:
    if isinstance(value, Mapping):
        return {
            k: _hide_value(v, str(k), is_of_store or str(k) in OF_STORES) for k, v in value.items()
        }
    if is_of_store and isinstance(value, (list, tuple, set, frozenset)):
        return [_hide_value(v, name, is_of_store) for v in value]
    if _is_hidden(value, name, is_of_store):
        return "***"
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(_hide_value(v, name, is_of_store) for v in value)
    return hide_in_text(value) if isinstance(value, str) else value


def secret_texts(storage_options: Any, name: str = "") -> Iterator[str]:
    """Yield the values of storage options that must not appear in a message, as text. Pure.

    >>> list(secret_texts({"profile": "lab", "odd": "x1", "list": [{"pin": 9}, b"x2"]}))
    ['x1', '9', 'x2']
    """
    if isinstance(storage_options, Mapping):
        for key, item in storage_options.items():
            yield from secret_texts(item, str(key))
    elif isinstance(storage_options, (list, tuple, set, frozenset)):
        for item in storage_options:
            yield from secret_texts(item, name)
    elif _is_hidden(storage_options, name, is_of_store=True):
        is_bytes = isinstance(storage_options, bytes)
        yield storage_options.decode(errors="replace") if is_bytes else str(storage_options)


def hide_in_text(text: str) -> str:
    """Return a message with the secrets inside its URLs hidden. Pure.

    >>> hide_in_text("cannot read https://me:word@host/a.tif?sig=x1&sha=4d7a")
    'cannot read https://me:***@host/a.tif?sig=***&sha=4d7a'
    >>> hide_in_text("the name 'a.tif?X-Amz-Signature=x1'")  # the last part of a URL
    "the name 'a.tif?X-Amz-Signature=***"
    """
    if "//" not in text and "?" not in text:
        return text
    return _mask(text, _secrets_in(text), lambda variable: "***")


def hide_credentials(text: str) -> str:
    """Return a URL without what is a credential for sure. Pure.

    Other parameters stay, since they may say which file is meant: for digests, not for display.

    >>> hide_credentials("https://h/datafile?id=5&sig=x1")
    'https://h/datafile?id=5&sig=***'
    """
    found = [secret for secret in _secrets_in(text) if secret.is_certain]
    return _mask(text, found, lambda variable: "***")


class _Secret(NamedTuple):
    """A secret inside a text."""

    start: int
    stop: int
    variable: str
    """The environment variable that stands for it in YAML."""
    is_certain: bool = True
    """Whether it is a credential, not just a parameter that may be one."""


def _secrets_in(text: str) -> list[_Secret]:
    """Return the secrets inside the URLs of a text, ascending. Pure.

    >>> [secret.variable for secret in _secrets_in("http://me:word@host/a.tif?sig=x1&pwd=x&sha=1")]
    ['URL_PASSWORD', 'URL_SIGNATURE', 'URL_PWD']
    """
    found = [_Secret(*m.span("value"), "URL_PASSWORD") for m in _USER_INFO.finditer(text)]
    for web in _WEB.finditer(text):
        for m in _BARE.finditer(web["query"]):
            at = web.start("query") + m.start("value")
            found.append(_Secret(at, at + len(m["value"]), "URL_QUERY", False))
    found += [
        _Secret(*m.span("value"), "URL_SIGNATURE")
        for m in (_OF_PATH.finditer(text) if "://" in text else ())
        if "session" in m["name"].lower() or _is_secret(m["name"])
    ]
    for m in _PARAMETER.finditer(text):
        name = m["name"]
        if name.lower() in _HARMLESS and _is_version(m["value"]):
            continue
        is_certain = _CREDENTIAL.match(name) is not None
        variable = f"URL_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}"
        found.append(
            _Secret(*m.span("value"), "URL_SIGNATURE" if is_certain else variable, is_certain)
        )
    return sorted(found)


def _mask(
    text: str,
    secrets: Sequence[_Secret],
    mask: Callable[[str], str],
    keep: Callable[[str], str] = str,
) -> str:
    """Return a text with its secrets replaced, and *keep* applied to what is between them."""
    pieces, at = [], 0
    for secret in secrets:
        if secret.start >= at:  # else it is a part of the one before
            pieces += [keep(text[at : secret.start]), mask(secret.variable)]
            at = secret.stop
    return "".join([*pieces, keep(text[at:])])


def _is_hidden(value: Any, name: str, is_of_store: bool) -> bool:
    """Return whether a value that is neither a mapping nor a list is a secret, by its name."""
    if value is None or isinstance(value, bool):
        return False
    if not is_of_store:
        return _is_secret(name)
    is_plain = isinstance(value, (str, int, float, PurePath))
    return not is_plain or name.lower() not in _HARMLESS_OPTIONS


def _is_secret(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
    return bool(_SECRET_NAME.search(words)) and not _OPEN_NAME.search(words)


def _ask(name: str) -> str:
    variable = _WELL_KNOWN.get(name.lower()) or re.sub(r"\W", "_", name).upper()
    return f"{{{{ env({variable}) }}}}"
