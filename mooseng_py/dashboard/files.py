"""Listings, attributes and places of files through the client engine, as plain values. Reads only.

What it may read is what this process may: its user and groups are checked by the masters, as for every client.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mooseng_py.errors import make_error

from .paths import encoded, shown
from .seen import Snapshot, server_name

if TYPE_CHECKING:
    from mooseng_py.sdk import FileSystem

Plain = dict[str, Any]
ValueT = TypeVar("ValueT")
MOST_ENTRIES = 1000
MOST_CHUNKS = 1000
_EIO, _UNAVAILABLE = 5, 2


class Files:
    """The file system, once there is a session; before that every call is UnavailableError."""

    def __init__(self) -> None:
        self._fs: FileSystem | None = None
        self._lock = threading.Lock()

    def attach(self, fs: FileSystem) -> None:
        with self._lock:
            self._fs = fs

    def stop(self) -> None:
        """Calls that come later are refused; the engine is its owner's to close."""
        with self._lock:
            self._fs = None

    def use(self, work: Callable[[FileSystem], ValueT]) -> ValueT:
        """Raises: UnavailableError without a session; what `work` raises."""
        with self._lock:
            fs = self._fs
        if fs is None:
            raise make_error(
                _EIO, _UNAVAILABLE, "no session with the masters yet; files are shown as soon as one leads"
            )
        try:
            return work(fs)
        except ValueError as error:
            # The engine was closed meanwhile.
            raise make_error(_EIO, _UNAVAILABLE, str(error)) from None

    def listing(self, path: bytes, after: int, limit: int) -> Plain:
        """One page of a directory, in the directory's own order. Raises: MooseError."""

        def work(fs: FileSystem) -> Plain:
            entries, mark = fs.scanpage(path, after=after, limit=min(limit, MOST_ENTRIES))
            return {
                "path": encoded(path),
                "shown": shown(path),
                "entries": [_entry(os.fsencode(entry.name), path, entry.attributes) for entry in entries],
                "next": mark,
            }

        return self.use(work)

    def about(self, path: bytes, first: int, snapshot: Callable[[], Snapshot]) -> Plain:
        """A file's or directory's attributes and, for a file, where its bytes lie. Raises: MooseError."""

        def work(fs: FileSystem) -> Plain:
            own = fs.stat(path, follow_symlinks=False)
            found = fs.stat(path) if stat.S_ISLNK(own.st_mode) else own
            name = path.rstrip(b"/").rpartition(b"/")[2]
            about = {**_entry(name, path.rstrip(b"/").rpartition(b"/")[0], own), "path": encoded(path)}
            if found is not own:
                target = fs.readlink(path)
                about["target"] = shown(
                    target if isinstance(target, bytes) else target.encode("utf-8", "surrogateescape")
                )
                about["leads_to"] = _kind(found.st_mode)
            if stat.S_ISREG(found.st_mode):
                chunks, inline = fs.chunks(path, first=first, limit=MOST_CHUNKS)
                place = placement(snapshot())
                about |= {
                    "length": found.st_size,
                    "inline": inline,
                    "chunks": [place(chunk) for chunk in chunks],
                    "next_chunk": chunks[-1].index + 1 if len(chunks) == MOST_CHUNKS else 0,
                }
            return about

        return self.use(work)


def placement(snapshot: Snapshot) -> Callable[[Any], Plain]:
    """How to show a chunk. Which copies live is the leader's knowledge: of chunks in danger it lists them, of others all do."""
    led, newest = snapshot.led.what, snapshot.newest().what
    troubled = {trouble.chunk.id: set(trouble.live) for trouble in (led.troubled if led else ())}
    up = {server.server_id: server.up for server in (newest.servers if newest else ())}

    def lives(chunk: int, server: int) -> bool:
        return up.get(server, False) and (chunk not in troubled or server in troubled[chunk])

    def place(chunk: Any) -> Plain:
        copies = [
            {"server": server_name(number), "address": address, "live": lives(chunk.id, number)}
            for number, address in sorted(chunk.servers.items())
        ]
        return {
            "index": chunk.index,
            "id": f"{chunk.id:016x}",
            "version": chunk.version,
            "copies": copies,
            "wanted": led.copies if led else 0,
            "written": chunk.written,
            "healing": chunk.healing,
            "stored_bytes": chunk.stored_bytes,
        }

    return place


def _entry(name: bytes, parent: bytes, attributes: Any) -> Plain:
    return {
        "name": shown(name),
        "path": encoded(parent.rstrip(b"/") + b"/" + name),
        "kind": _kind(attributes.st_mode),
        "mode": stat.filemode(attributes.st_mode),
        "size": attributes.st_size,
        "mtime_ms": attributes.st_mtime_ns // 1_000_000,
        "ctime_ms": attributes.st_ctime_ns // 1_000_000,
        "uid": attributes.st_uid,
        "gid": attributes.st_gid,
        "links": attributes.st_nlink,
        "inode": attributes.st_ino,
        "stored_bytes": attributes.st_blocks * 512,
    }


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFREG: "file"}
    return kinds.get(stat.S_IFMT(mode), "special")
