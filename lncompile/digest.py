"""SHA-256 without ``hashlib``, whose import loads OpenSSL: 3 of the 15 ms that this package may take."""

from __future__ import annotations

try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12 and newer
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11
    except ImportError:
        from hashlib import sha256


def digest(data: bytes) -> str:
    """The SHA-256 of ``data`` in hexadecimal."""
    return str(sha256(data).hexdigest())


def short_digest(text: str) -> str:
    """A short name for a text: 64 bits of its digest."""
    return digest(text.encode())[:16]
