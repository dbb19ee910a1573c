"""Names in URLs and JSON: any bytes go there and back unchanged, percent-encoded; what people see is text for the eye only."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote


class BadRequest(Exception):
    """The request's words are wrong: status 400 with this sentence."""


def query(raw: bytes) -> dict[str, str]:
    """The parameters of a query string; bytes that are not UTF-8 stay themselves (surrogateescape). Raises: BadRequest."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="surrogateescape", max_num_fields=20)
    except ValueError:
        raise BadRequest("the query string is not percent-encoded") from None
    return dict(pairs)


def checked(path: str) -> bytes:
    """The path as bytes. Raises: BadRequest for one that is not absolute and plain."""
    raw = path.encode("utf-8", "surrogateescape")
    if not raw.startswith(b"/"):
        raise BadRequest("path must begin with /")
    if b"\0" in raw:
        raise BadRequest("path cannot hold a NUL byte")
    if any(part in (b".", b"..") for part in raw.split(b"/")):
        raise BadRequest("path cannot hold . or ..")
    if len(raw) > 4096:
        raise BadRequest("path is longer than 4096 bytes")
    return raw


def encoded(path: bytes) -> str:
    """As it stands in a URL."""
    return quote(path, safe="/")


def shown(name: bytes) -> str:
    """For the eye: what is no UTF-8 and what would not be seen is written as an escape."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def disposition(name: bytes) -> str:
    """A Content-Disposition header by which a browser saves the file under its name. Source: RFC 6266."""
    plain = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\%' else "_" for byte in name)
    text = quote(name.decode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{text}"
