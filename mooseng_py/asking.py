"""Ask a master what it sees, without a session: for the command line and the dashboard."""

from __future__ import annotations

from mooseng_py.errors import UnavailableError
from mooseng_py.native import Link, method

__all__ = ["ADMIN", "FILE_INFO", "VIEW", "ask"]

# Methods that any master answers, and the leader's for orders.
VIEW = method("View")
FILE_INFO = method("FileInfo")
ADMIN = method("Admin")


def ask(address: str, method: int, message: bytes, *, timeout_s: float) -> bytes:
    """The reply's message. Raises: MooseError, UnavailableError when there is no answer within `timeout_s`."""
    try:
        with Link(address, timeout_s=timeout_s) as link:
            return link.call(method, message)
    except UnavailableError as error:
        if error.leader is not None:
            raise
        text = f"{address} does not answer ({error.strerror}); is that daemon running?"
        raise UnavailableError(error.errno, text) from None
