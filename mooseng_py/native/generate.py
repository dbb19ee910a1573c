"""Write `mooseng_py/config/limits.py` from the library: `python -m mooseng_py.native.generate` (`make limits`).

What it makes is committed, because the Pulumi program reads the settings without the library; a test makes it again
and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mooseng_py.native import LIMITS

TARGET = Path(__file__).resolve().parents[1] / "config/limits.py"

_HEAD = '''"""What the numbers among the settings may be. Made from the native library by `make limits`; do not edit."""

# Role, setting: least, most, default (None: it must be given).
LIMITS: dict[str, dict[str, tuple[int, int, int | None]]] = {
'''


def text() -> str:
    """The module, as the formatter leaves it."""
    lines = [_HEAD]
    for role, limits in sorted(LIMITS.items()):
        lines.append(f'    "{role}": {{\n')
        for name, limit in sorted(limits.items()):
            lines.append(f'        "{name}": ({limit.least}, {limit.most}, {limit.default}),\n')
        lines.append("    },\n")
    return "".join([*lines, "}\n"])


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{TARGET}\n")
