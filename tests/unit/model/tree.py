"""A name space in plain dictionaries: small enough to be read against the manual pages, slow, and of no other use.

Refuses as Linux does, with one errno. Changes nothing before it has checked everything.
"""

import errno
from dataclasses import dataclass, field
from typing import Literal

ROOT = 1
INLINE_LIMIT = 64
READ, WRITE, SEARCH = 4, 2, 1
SET_UID, SET_GID, STICKY = 0o4000, 0o2000, 0o1000
NO_REPLACE, EXCHANGE, WHITEOUT = 1, 2, 4

Kind = Literal["directory", "file", "symlink"]


class Refused(Exception):
    """The operation is not possible; nothing has changed."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.number = number


@dataclass(frozen=True)
class User:
    """Who asks. Root may do everything but execute what nobody may execute."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def in_group(self, gid: int) -> bool:
        return gid == self.gid or gid in self.groups


@dataclass
class Node:
    kind: Kind
    mode: int
    uid: int
    gid: int
    atime: int
    mtime: int
    ctime: int
    nlink: int = 1
    version: int = 1
    parent: int = 0
    target: bytes = b""
    data: bytearray = field(default_factory=bytearray)
    size: int = 0
    entries: dict[bytes, int] = field(default_factory=dict)


class Tree:
    """Inodes by number. Time is given with each change; numbers are given out once."""

    def __init__(self, now: int) -> None:
        self.nodes = {ROOT: Node("directory", 0o755, 0, 0, now, now, now, nlink=2, parent=ROOT)}
        self.next = 2

    # ---- what a reader sees ----------------------------------------------------------------------------------------
    def node(self, inode: int) -> Node:
        if inode not in self.nodes:
            raise Refused(errno.ESTALE)
        return self.nodes[inode]

    def lookup(self, who: User, parent: int, name: bytes) -> int:
        check_name(name)
        directory = self.directory(parent)
        self.require(who, directory, SEARCH)
        found = {b".": parent, b"..": directory.parent}.get(name) or directory.entries.get(name)
        if found is None:
            raise Refused(errno.ENOENT)
        return found

    def readdir(self, who: User, inode: int) -> dict[bytes, int]:
        """Names in the order in which they came; a name that was replaced keeps its place."""
        directory = self.directory(inode)
        self.require(who, directory, READ)
        return directory.entries

    def access(self, who: User, inode: int, mask: int) -> int:
        self.require(who, self.node(inode), mask)
        return inode

    def open_for_reading(self, who: User, inode: int) -> int:
        node = self.node(inode)
        if node.kind == "symlink":
            raise Refused(errno.ELOOP)
        self.require(who, node, READ)
        return inode

    def content(self, inode: int) -> bytes:
        """What lies in the inode: its bytes, and zeros up to its size as far as the limit."""
        node = self.node(inode)
        return bytes(node.data.ljust(min(node.size, INLINE_LIMIT), b"\0"))

    # ---- making ----------------------------------------------------------------------------------------------------
    def mkdir(self, who: User, now: int, parent: int, name: bytes, mode: int) -> int:
        self.require_new(who, parent, name)
        inode = self.make(who, now, parent, name, "directory", mode & 0o1777)
        self.nodes[inode].parent = parent
        self.nodes[inode].nlink = 2
        self.nodes[parent].nlink += 1
        return inode

    def symlink(self, who: User, now: int, parent: int, name: bytes, target: bytes) -> int:
        if not target:
            raise Refused(errno.ENOENT)
        self.require_new(who, parent, name)
        inode = self.make(who, now, parent, name, "symlink", 0o777)
        self.nodes[inode].target = target
        self.nodes[inode].size = len(target)
        return inode

    def create(self, who: User, now: int, parent: int, name: bytes, mode: int, exclusive: bool, truncate: bool) -> int:
        """open(2) with O_CREAT and O_RDWR."""
        directory, found = self.find(who, parent, name)
        if name in (b".", b".."):
            raise Refused(errno.EEXIST if exclusive else errno.EISDIR)
        if found is None:
            self.require_writable(who, directory)
            return self.make(who, now, parent, name, "file", mode)
        if exclusive:
            raise Refused(errno.EEXIST)
        node = self.node(found)
        if node.kind == "directory":
            raise Refused(errno.EISDIR)
        if node.kind == "symlink":
            raise Refused(errno.ELOOP)
        self.require(who, node, READ | WRITE)
        if truncate:
            self.cut(who, now, node, 0)
        return found

    def link(self, who: User, now: int, inode: int, parent: int, name: bytes) -> int:
        node = self.node(inode)
        self.require_new(who, parent, name)
        if node.kind == "directory":
            raise Refused(errno.EPERM)
        if node.nlink == 0:
            raise Refused(errno.ENOENT)
        self.nodes[parent].entries[name] = inode
        self.touch(parent, now)
        node.nlink += 1
        node.ctime = now
        return inode

    # ---- taking away -----------------------------------------------------------------------------------------------
    def unlink(self, who: User, now: int, parent: int, name: bytes) -> int:
        directory, found = self.find(who, parent, name)
        if name in (b".", b".."):
            raise Refused(errno.EISDIR)
        if found is None:
            raise Refused(errno.ENOENT)
        self.require_removal(who, directory, self.node(found))
        if self.node(found).kind == "directory":
            raise Refused(errno.EISDIR)
        del directory.entries[name]
        self.touch(parent, now)
        self.drop_name(found, now)
        return found

    def rmdir(self, who: User, now: int, parent: int, name: bytes) -> int:
        directory, found = self.find(who, parent, name)
        if name in (b".", b".."):
            raise Refused(errno.EINVAL if name == b"." else errno.ENOTEMPTY)
        if found is None:
            raise Refused(errno.ENOENT)
        self.require_removal(who, directory, self.node(found))
        if self.node(found).kind != "directory":
            raise Refused(errno.ENOTDIR)
        if self.node(found).entries:
            raise Refused(errno.ENOTEMPTY)
        del directory.entries[name]
        self.touch(parent, now)
        directory.nlink -= 1
        self.drop_name(found, now)
        return found

    def purge(self, inode: int) -> None:
        """Forget an inode without a name."""
        if inode in self.nodes and self.nodes[inode].nlink == 0:
            del self.nodes[inode]

    # ---- moving ----------------------------------------------------------------------------------------------------
    def rename(self, who: User, now: int, source: tuple[int, bytes], target: tuple[int, bytes], flags: int) -> int:
        if flags & WHITEOUT:
            raise Refused(errno.EOPNOTSUPP)  # of a later cluster level than this state has
        if flags not in (0, NO_REPLACE, EXCHANGE):
            raise Refused(errno.EINVAL)
        source_directory, moved = self.find(who, *source)
        target_directory, replaced = self.find(who, *target)
        if {source[1], target[1]} & {b".", b".."}:
            raise Refused(errno.EBUSY)
        if moved is None or (flags == EXCHANGE and replaced is None):
            raise Refused(errno.ENOENT)
        if flags == NO_REPLACE and replaced is not None:
            raise Refused(errno.EEXIST)
        if moved == replaced:
            return moved
        self.require_renamable(who, source, target, moved, replaced, flags)
        if flags == EXCHANGE and replaced is not None:
            source_directory.entries[source[1]] = replaced
            self.settle(replaced, target[0], source[0], now)
        else:
            del source_directory.entries[source[1]]
        target_directory.entries[target[1]] = moved
        self.settle(moved, source[0], target[0], now)
        self.touch(source[0], now)
        self.touch(target[0], now)
        if flags != EXCHANGE and replaced is not None:
            if self.nodes[replaced].kind == "directory":
                target_directory.nlink -= 1
            self.drop_name(replaced, now)
        return moved

    def require_renamable(
        self,
        who: User,
        source: tuple[int, bytes],
        target: tuple[int, bytes],
        moved: int,
        replaced: int | None,
        flags: int,
    ) -> None:
        node = self.node(moved)
        if self.is_within(target[0], moved):
            raise Refused(errno.EINVAL)
        if replaced is not None and self.is_within(source[0], replaced):
            raise Refused(errno.EINVAL if flags == EXCHANGE else errno.ENOTEMPTY)
        self.require_removal(who, self.node(source[0]), node)
        changed_parent = [node] if source[0] != target[0] else []
        if replaced is None:
            self.require_writable(who, self.node(target[0]))
        else:
            other = self.node(replaced)
            self.require_removal(who, self.node(target[0]), other)
            if flags == EXCHANGE:
                changed_parent = [other, node] if changed_parent else []
            elif node.kind == "directory" and other.kind != "directory":
                raise Refused(errno.ENOTDIR)
            elif node.kind != "directory" and other.kind == "directory":
                raise Refused(errno.EISDIR)
        for directory in changed_parent:
            if directory.kind == "directory":
                self.require(who, directory, WRITE)  # its entry .. changes
        if flags != EXCHANGE and replaced is not None and self.node(replaced).entries:
            raise Refused(errno.ENOTEMPTY)

    def is_within(self, inode: int, ancestor: int) -> bool:
        while inode != ancestor:
            if inode == ROOT or inode not in self.nodes:
                return False
            inode = self.nodes[inode].parent
        return True

    def settle(self, inode: int, before: int, after: int, now: int) -> None:
        node = self.nodes[inode]
        node.ctime = now
        if node.kind == "directory":
            node.parent = after
            self.nodes[before].nlink -= 1
            self.nodes[after].nlink += 1

    # ---- changing --------------------------------------------------------------------------------------------------
    def write(self, who: User, now: int, inode: int, offset: int, data: bytes, append: bool) -> int:
        node = self.node(inode)
        if node.kind != "file":
            raise Refused(errno.EINVAL)
        if not data:
            return inode
        start = node.size if append else offset
        if start + len(data) > INLINE_LIMIT:
            raise Refused(errno.EFBIG)
        node.data.extend(bytes(max(0, start + len(data) - len(node.data))))
        node.data[start : start + len(data)] = data
        node.size = max(node.size, start + len(data))
        self.clear_set_id_unless_root(who, node)
        node.version += 1
        node.mtime = node.ctime = now
        return inode

    def truncate(self, who: User, now: int, inode: int, size: int, by_handle: bool) -> int:
        node = self.node(inode)
        if node.kind != "file":
            raise Refused(errno.EISDIR if node.kind == "directory" else errno.EINVAL)
        if not by_handle:
            self.require(who, node, WRITE)
        self.cut(who, now, node, size)
        return inode

    def chmod(self, who: User, now: int, inode: int, mode: int) -> int:
        node = self.node(inode)
        if node.kind == "symlink":
            raise Refused(errno.EOPNOTSUPP)
        self.require_owner(who, node)
        node.mode = settable(who, mode, node.gid)
        node.ctime = now
        return inode

    def chown(self, who: User, now: int, inode: int, uid: int | None, gid: int | None) -> int:
        """Root gives to anybody; an owner gives to a group of its own."""
        node = self.node(inode)
        owns = who.uid in (0, node.uid)
        if uid is not None and not (who.uid == 0 or (owns and uid == node.uid)):
            raise Refused(errno.EPERM)
        if gid is not None and not (who.uid == 0 or (owns and (gid == node.gid or who.in_group(gid)))):
            raise Refused(errno.EPERM)
        if uid is None and gid is None:
            return inode
        if node.kind != "directory":
            node.mode = without_set_id(who, node)
        node.uid = node.uid if uid is None else uid
        node.gid = node.gid if gid is None else gid
        node.ctime = now
        return inode

    def utimes(self, who: User, now: int, inode: int, atime: int | None, mtime: int | None) -> int:
        """Both times; None is now, which whoever may write may set."""
        node = self.node(inode)
        if atime is not None or mtime is not None:
            self.require_owner(who, node)
        elif who.uid not in (0, node.uid):
            self.require(who, node, WRITE)
        node.atime = now if atime is None else atime
        node.mtime = now if mtime is None else mtime
        node.ctime = now
        return inode

    # ---- what they share -------------------------------------------------------------------------------------------
    def directory(self, inode: int) -> Node:
        node = self.node(inode)
        if node.kind != "directory":
            raise Refused(errno.ENOTDIR)
        return node

    def find(self, who: User, parent: int, name: bytes) -> tuple[Node, int | None]:
        directory = self.directory(parent)
        self.require(who, directory, SEARCH)
        check_name(name)
        return directory, directory.entries.get(name)

    def require_new(self, who: User, parent: int, name: bytes) -> None:
        directory, found = self.find(who, parent, name)
        if found is not None or name in (b".", b".."):
            raise Refused(errno.EEXIST)
        self.require_writable(who, directory)

    def require_writable(self, who: User, directory: Node) -> None:
        if directory.nlink == 0:
            raise Refused(errno.ENOENT)
        self.require(who, directory, WRITE | SEARCH)

    def require_removal(self, who: User, directory: Node, victim: Node) -> None:
        self.require(who, directory, WRITE | SEARCH)
        if directory.mode & STICKY and who.uid not in (0, victim.uid, directory.uid):
            raise Refused(errno.EPERM)

    def require_owner(self, who: User, node: Node) -> None:
        if who.uid not in (0, node.uid):
            raise Refused(errno.EPERM)

    def require(self, who: User, node: Node, mask: int) -> None:
        """Permission bits. Source: path_resolution(7)."""
        if who.uid == 0:
            allowed = 7 if node.kind == "directory" or node.mode & 0o111 else READ | WRITE
        elif who.uid == node.uid:
            allowed = node.mode >> 6
        elif who.in_group(node.gid):
            allowed = node.mode >> 3
        else:
            allowed = node.mode
        if mask & ~allowed:
            raise Refused(errno.EACCES)

    def make(self, who: User, now: int, parent: int, name: bytes, kind: Kind, mode: int) -> int:
        directory = self.nodes[parent]
        inherits = bool(directory.mode & SET_GID)
        gid = directory.gid if inherits else who.gid
        if kind == "directory":
            mode |= SET_GID if inherits else 0
        else:
            mode = settable(who, mode, gid)
        inode, self.next = self.next, self.next + 1
        self.nodes[inode] = Node(kind, mode, who.uid, gid, now, now, now)
        directory.entries[name] = inode
        self.touch(parent, now)
        return inode

    def cut(self, who: User, now: int, node: Node, size: int) -> None:
        del node.data[size:]
        node.size = size
        self.clear_set_id_unless_root(who, node)
        node.version += 1
        node.mtime = node.ctime = now

    def clear_set_id_unless_root(self, who: User, node: Node) -> None:
        if who.uid != 0:
            node.mode = without_set_id(who, node)

    def drop_name(self, inode: int, now: int) -> None:
        node = self.nodes[inode]
        node.nlink = 0 if node.kind == "directory" else node.nlink - 1
        node.ctime = now

    def touch(self, inode: int, now: int) -> None:
        self.nodes[inode].mtime = self.nodes[inode].ctime = now


def check_name(name: bytes) -> None:
    if not name:
        raise Refused(errno.ENOENT)
    if len(name) > 255:
        raise Refused(errno.ENAMETOOLONG)
    if b"/" in name or b"\0" in name:
        raise Refused(errno.EINVAL)


def settable(who: User, mode: int, gid: int) -> int:
    return mode if who.uid == 0 or who.in_group(gid) else mode & ~SET_GID


def without_set_id(who: User, node: Node) -> int:
    stranger = who.uid != 0 and not who.in_group(node.gid)
    return node.mode & ~SET_UID & ~(SET_GID if node.mode & 0o010 or stranger else 0)
