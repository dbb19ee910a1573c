"""The native log: standard error, one format for the whole process."""

from __future__ import annotations

from typing import Literal

from mooseng_py.native._boundary import check, json_span, lib


def start_log(format: Literal["json", "console"] = "console", level: str = "info") -> None:
    """Log events of `level` and above. `level` also takes per-crate rules, such as `info,raft=debug`.

    Raises: MooseError with EINVAL for a wrong level, with EALREADY the second time.
    """
    span = json_span({"format": format, "level": level})
    check(lib.mng_log_start(span, len(span)))
