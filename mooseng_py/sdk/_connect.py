"""`connect`: from a URL to a file system."""

from __future__ import annotations

import os
from typing import Any

from mooseng_py.config.models import ClientSettings, allowed

from ._filesystem import FileSystem

_SCHEME = "mooseng://"


def connect(url: str, **options: Any) -> FileSystem:
    """The file system of the cluster whose masters `url` names: mooseng://host:port,host:port,...[/].

    Options: `deadline_ms`, `read_ahead_bytes`, `write_window_bytes` as in `mooseng_py.config`; `name` for the list of
    sessions; `cluster_id` to refuse any other cluster; `umask` (default: the process's).
    Raises: ValueError for a wrong URL or option; UnavailableError when no master answered until the deadline.
    """
    from mooseng_py.config.native import client_settings
    from mooseng_py.native import Client

    masters = masters_of(url)
    name = str(options.pop("name", f"python-{os.getpid()}"))
    cluster_id = str(options.pop("cluster_id", ""))
    umask = options.pop("umask", None)
    settings = checked(masters, options)
    return FileSystem(Client(client_settings(settings, name=name, cluster_id=cluster_id)), umask=umask)


def masters_of(url: str) -> list[str]:
    """The addresses in a URL. Raises: ValueError."""
    if not url.startswith(_SCHEME):
        raise ValueError(f"{url!r} is not mooseng://host:port,host:port/; that scheme is the only one")
    addresses, _, path = url.removeprefix(_SCHEME).partition("/")
    if path:
        raise ValueError(
            f"{url!r} names the path {path!r}; a connection is to the whole file system, so end the URL with /"
        )
    return [address.strip() for address in addresses.split(",")]


def checked(masters: list[str], options: dict[str, Any]) -> ClientSettings:
    """Settings of a client engine. Raises: ValueError naming the option and what is allowed."""
    from pydantic import ValidationError

    try:
        return ClientSettings(masters=masters, **options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0]) if first["loc"] else "masters"
        if key not in ClientSettings.model_fields:
            raise ValueError(
                f"there is no option {key!r}; the options are name, cluster_id, umask, {', '.join(list(ClientSettings.model_fields)[1:])}"
            ) from None
        what = first["msg"].removeprefix("Value error, ") if key == "masters" else allowed(ClientSettings, key)
        raise ValueError(f"{key} is {first['input']!r}; allowed is {what}") from None
