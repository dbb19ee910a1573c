"""How commands print: JSON when asked, tables for people, one sentence on standard error when something failed."""

from __future__ import annotations

import json
import sys
from typing import Any

from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

# A pipe has no width: its reader cuts lines as it likes.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_table(columns: list[str], rows: list[list[str]], *, right: frozenset[str] = frozenset()) -> None:
    """A table without lines; `right` names columns of numbers."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def fail(sentence: str) -> None:
    sys.stderr.write(f"mooseng: {sentence}\n")


def as_dict(message: Message) -> dict[str, Any]:
    """Every field by its name in the schema, absent ones as their default; messages that are not set are left out.

    Numbers stay numbers, bytes become text.
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            found[field.name] = dict(value)
        elif field.is_repeated:
            found[field.name] = [_plain(field, item) for item in value]
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = _plain(field, value)
    return found


def _plain(field: Any, value: Any) -> Any:
    if isinstance(value, Message):
        return as_dict(value)
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


def size(number: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError("the loop returns at its last unit")
