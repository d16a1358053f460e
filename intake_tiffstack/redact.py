"""What must not be shown: credentials in options, and how a catalog asks for them instead. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["mask_secrets"]

_SECRET_NAME = re.compile(
    r"secret|passw|passphrase|credential|authorization|cookie|connection_string|private|"
    r"(^|_)(key|pwd|token|sas|signature)($|_)|account_key|api_?key|access_key|token$",
    re.IGNORECASE,
)
_OPEN_NAME = re.compile(r"key_?(file|path|name)$|^(anon|public|token_type)", re.IGNORECASE)
_WELL_KNOWN = {
    "key": "AWS_ACCESS_KEY_ID",
    "secret": "AWS_SECRET_ACCESS_KEY",
    "token": "AWS_SESSION_TOKEN",
}
_USER_INFO = re.compile(r"(?P<start>[a-z][a-z0-9+.-]*://)(?P<who>[^/@\s:]*):(?P<word>[^/@\s]+)@")
_SIGNED = re.compile(
    r"(?P<start>[?&](?:[a-z-]*signature|sig|[a-z-]*token|[a-z-]*credential|key|awsaccesskeyid)=)"
    r"(?P<word>[^&\s:]+)",
    re.IGNORECASE,
)


def mask_secrets(value: Any, name: str = "") -> Any:
    """Return *value* with each secret replaced by ``{{ env(NAME) }}``. Pure.

    A value is a secret by the key it stands under (``secret``, ``password``, ``token`` ...), or as
    the password or signature inside a URL. What is a template already stays as it is.

    Examples
    --------
    >>> mask_secrets({"key": "AKIA", "anon": False, "client_kwargs": {"password": "x"}})
    {'key': '{{ env(AWS_ACCESS_KEY_ID) }}', 'anon': False, 'client_kwargs': {'password': \
'{{ env(PASSWORD) }}'}}
    >>> mask_secrets("http://me:word@host/a.tif")
    'http://me:{{ env(URL_PASSWORD) }}@host/a.tif'
    """
    if isinstance(value, Mapping):
        return {k: mask_secrets(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_secrets(v, name) for v in value]
    if isinstance(value, (str, bytes)):
        if value and _SECRET_NAME.search(name) and not _OPEN_NAME.search(name):
            return value if _is_template(value) else _ask(name)
        if isinstance(value, str):
            value = _USER_INFO.sub(r"\g<start>\g<who>:{{ env(URL_PASSWORD) }}@", value)
            return _SIGNED.sub(r"\g<start>{{ env(URL_SIGNATURE) }}", value)
    return value


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


def _ask(name: str) -> str:
    variable = _WELL_KNOWN.get(name.lower()) or re.sub(r"\W", "_", name).upper()
    return f"{{{{ env({variable}) }}}}"
