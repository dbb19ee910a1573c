"""Random histories of several users: the native name space answers and looks exactly as the plain model does."""

import errno
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from mooseng_py.native import NameSpaceState
from mooseng_py.proto import cluster_pb2, common_pb2, name_pb2

from .tree import INLINE_LIMIT, NO_REPLACE, ROOT, Node, Refused, Tree, User

USERS = [User(0, 0), User(1000, 1000, (3000,)), User(1001, 1001, (1000, 3000)), User(1002, 1002)]
KINDS = {name_pb2.FILE_REGULAR: "file", name_pb2.FILE_DIRECTORY: "directory", name_pb2.FILE_SYMLINK: "symlink"}
FIRST_TIME = 1_700_000_000_000_000_000
DIRECTORY_BYTES = 4096

users = st.sampled_from(USERS)
inodes = st.integers(0, 31)
ODD_NAMES = [
    b"",
    b".",
    b"..",
    b"x/y",
    b"nul\0",
    b"n" * 255,
    b"n" * 256,
    b"\xff\xfe",
    b"a name too long to be a short one",
]
names = st.sampled_from([b"a", b"b", b"c"] * 12 + ODD_NAMES)
modes = st.sampled_from([0o777, 0o755, 0o1777, 0o2777, 0o6755, 0o4711, 0o1070, 0o2707, 0o640, 0o007, 0])
times = st.one_of(st.none(), st.integers(-(2**62), 2**62))


class Histories(RuleBasedStateMachine):
    """Each step goes to both. A step may be refused; both must then say the same, and nothing may have changed."""

    model: type[Tree] = Tree

    def __init__(self) -> None:
        super().__init__()
        self.state = NameSpaceState()
        self.now = FIRST_TIME
        boot = cluster_pb2.Bootstrap(cluster_id="model", copies=3, min_copies=2, inline_limit=INLINE_LIMIT)
        self.admin(cluster_pb2.AdminCommand(bootstrap=boot))
        self.tree = self.model(self.now)
        registered = self.apply(name_pb2.NameRequest(register_session=name_pb2.RegisterSession(name="model")))
        self.session, self.op_id, self.acked_below = registered.session, 0, 1
        self.done: dict[int, tuple[name_pb2.NameRequest, bytes]] = {}
        self.chmod(USERS[0], 0, 0o777)
        for name, mode in ((b"sticky", 0o1777), (b"set-gid", 0o2777)):
            self.mkdir(USERS[1], 0, name, 0o777)
            self.chmod(USERS[1], len(self.tree.nodes) - 1, mode)
            for user, file in zip(USERS[1:], (b"a", b"b", b"c"), strict=True):
                self.create(user, len(self.tree.nodes[ROOT].entries), file, 0o644, True, False)

    def teardown(self) -> None:
        self.state.close()

    # ---- both sides ------------------------------------------------------------------------------------------------
    def admin(self, command: cluster_pb2.AdminCommand) -> None:
        encoded = cluster_pb2.Command(now_ns=self.now, admin=command).SerializeToString()
        assert not cluster_pb2.AdminReply.FromString(self.state.apply(encoded)).HasField("error")

    def apply_bytes(self, request: name_pb2.NameRequest) -> bytes:
        self.now += 1
        return self.state.apply(cluster_pb2.Command(now_ns=self.now, name=request).SerializeToString())

    def apply(self, request: name_pb2.NameRequest) -> name_pb2.NameReply:
        return name_pb2.NameReply.FromString(self.apply_bytes(request))

    def query(self, who: User, **operation: Any) -> name_pb2.NameReply:
        request = name_pb2.NameRequest(creds=credentials(who), **operation)
        return name_pb2.NameReply.FromString(self.state.query(request.SerializeToString()))

    def mutate(self, who: User, expected: Callable[[int], int], **operation: Any) -> None:
        """Carry a change out on both sides, twice on the native one: a retry must be answered as before."""
        self.op_id += 1
        request = name_pb2.NameRequest(
            session=self.session, op_id=self.op_id, acked_below=self.acked_below, creds=credentials(who), **operation
        )
        encoded = self.apply_bytes(request)
        reply = name_pb2.NameReply.FromString(encoded)
        assert outcome(reply) == expectation(lambda: expected(self.now))
        self.done[self.op_id] = (request, encoded)
        assert self.apply_bytes(request) == encoded

    def inode(self, index: int) -> int:
        """Mostly one that there is; at times one that was, or will be next."""
        return 1 + index % self.tree.next if index >= 28 else choose(list(self.tree.nodes), index)

    def directory(self, index: int) -> int:
        """Mostly a directory that is not yet removed."""
        alive = [inode for inode, node in self.tree.nodes.items() if node.kind == "directory" and node.nlink]
        return self.inode(index) if index >= 24 else choose(alive, index)

    @invariant()
    def every_inode_looks_the_same(self) -> None:
        for inode in range(1, self.tree.next + 1):
            reply = self.query(USERS[0], getattr=name_pb2.GetAttr(inode=inode))
            if inode in self.tree.nodes:
                assert seen_attributes(reply.attr) == expected_attributes(inode, self.tree.nodes[inode])
                self.compare_content(inode, self.tree.nodes[inode])
            else:
                assert reply.error.errno == errno.ESTALE

    def compare_content(self, inode: int, node: Node) -> None:
        if node.kind == "directory":
            listing = self.query(USERS[0], readdir=name_pb2.ReadDir(inode=inode))
            assert [(entry.name, entry.inode) for entry in listing.entries] == list(node.entries.items())
            assert listing.end
        elif node.kind == "symlink":
            assert self.query(USERS[0], readlink=name_pb2.ReadLink(inode=inode)).value == node.target
        else:
            opened = self.query(USERS[0], open=name_pb2.Open(inode=inode, read=True))
            assert opened.inline_data == self.tree.content(inode)

    # ---- reads -----------------------------------------------------------------------------------------------------
    @rule(who=users, parent=inodes, name=names)
    def lookup(self, who: User, parent: int, name: bytes) -> None:
        parent = self.directory(parent)
        reply = self.query(who, lookup=name_pb2.Lookup(parent=parent, name=name))
        assert outcome(reply) == expectation(lambda: self.tree.lookup(who, parent, name))

    @rule(who=users, inode=inodes, page=st.integers(1, 3))
    def readdir_in_pages(self, who: User, inode: int, page: int) -> None:
        inode, listed, cookie = self.inode(inode), {}, 0
        while True:
            reply = self.query(who, readdir=name_pb2.ReadDir(inode=inode, cookie=cookie, max_entries=page))
            if reply.HasField("error") or not reply.entries:
                break
            assert len(reply.entries) <= page
            listed.update({entry.name: entry.inode for entry in reply.entries})
            cookie = reply.entries[-1].cookie
        if reply.HasField("error"):
            assert outcome(reply) == expectation(lambda: len(self.tree.readdir(who, inode)))
        else:
            assert list(listed.items()) == list(self.tree.readdir(who, inode).items())

    @rule(who=users, inode=inodes, mask=st.integers(0, 7))
    def access(self, who: User, inode: int, mask: int) -> None:
        inode = self.inode(inode)
        reply = self.query(who, access=name_pb2.Access(inode=inode, mask=mask))
        assert outcome(reply) == expectation(lambda: self.tree.access(who, inode, mask))

    @rule(who=users, inode=inodes)
    def read(self, who: User, inode: int) -> None:
        inode = self.inode(inode)
        reply = self.query(who, open=name_pb2.Open(inode=inode, read=True))
        assert outcome(reply) == expectation(lambda: self.tree.open_for_reading(who, inode))

    # ---- changes ---------------------------------------------------------------------------------------------------
    @rule(who=users, parent=inodes, name=names, mode=modes)
    def mkdir(self, who: User, parent: int, name: bytes, mode: int) -> None:
        parent = self.directory(parent)
        made = name_pb2.MkDir(parent=parent, name=name, mode=mode)
        self.mutate(who, lambda now: self.tree.mkdir(who, now, parent, name, mode), mkdir=made)

    @rule(who=users, parent=inodes, name=names, mode=modes, exclusive=st.booleans(), truncate=st.booleans())
    def create(self, who: User, parent: int, name: bytes, mode: int, exclusive: bool, truncate: bool) -> None:
        parent = self.directory(parent)
        made = name_pb2.Create(
            parent=parent, name=name, mode=mode, exclusive=exclusive, truncate=truncate, read=True, write=True
        )
        self.mutate(who, lambda now: self.tree.create(who, now, parent, name, mode, exclusive, truncate), create=made)

    @rule(who=users, parent=inodes, name=names, text=st.sampled_from([b"", b"a", b"/b/c"]))
    def symlink(self, who: User, parent: int, name: bytes, text: bytes) -> None:
        parent = self.directory(parent)
        made = name_pb2.Symlink(parent=parent, name=name, target=text)
        self.mutate(who, lambda now: self.tree.symlink(who, now, parent, name, text), symlink=made)

    @rule(who=users, inode=inodes, parent=inodes, name=names)
    def link(self, who: User, inode: int, parent: int, name: bytes) -> None:
        inode, parent = self.inode(inode), self.directory(parent)
        made = name_pb2.Link(inode=inode, parent=parent, name=name)
        self.mutate(who, lambda now: self.tree.link(who, now, inode, parent, name), link=made)

    @rule(who=users, parent=inodes, name=names)
    def unlink(self, who: User, parent: int, name: bytes) -> None:
        parent = self.directory(parent)
        gone = name_pb2.Unlink(parent=parent, name=name)
        self.mutate(who, lambda now: self.tree.unlink(who, now, parent, name), unlink=gone)

    @rule(who=users, parent=inodes, name=names)
    def rmdir(self, who: User, parent: int, name: bytes) -> None:
        parent = self.directory(parent)
        gone = name_pb2.RmDir(parent=parent, name=name)
        self.mutate(who, lambda now: self.tree.rmdir(who, now, parent, name), rmdir=gone)

    @rule(
        who=users, source=inodes, name=names, goal=inodes, new_name=names,
        flags=st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
    )  # fmt: skip
    def rename(self, who: User, source: int, name: bytes, goal: int, new_name: bytes, flags: int) -> None:
        source, goal = self.directory(source), self.directory(goal)
        moved = name_pb2.Rename(
            source_parent=source, source_name=name, target_parent=goal, target_name=new_name, flags=flags
        )
        self.mutate(who, lambda now: self.tree.rename(who, now, (source, name), (goal, new_name), flags), rename=moved)

    @rule(who=users, inode=inodes, offset=st.integers(0, 80), data=st.binary(max_size=20), append=st.booleans())
    def write(self, who: User, inode: int, offset: int, data: bytes, append: bool) -> None:
        inode = self.inode(inode)
        written = name_pb2.WriteInline(inode=inode, offset=offset, data=data, append=append)
        self.mutate(who, lambda now: self.tree.write(who, now, inode, offset, data, append), write_inline=written)

    @rule(who=users, inode=inodes, size=st.integers(0, 100), by_handle=st.booleans())
    def truncate(self, who: User, inode: int, size: int, by_handle: bool) -> None:
        inode = self.inode(inode)
        cut = name_pb2.SetAttr(inode=inode, size=size, by_handle=by_handle)
        self.mutate(who, lambda now: self.tree.truncate(who, now, inode, size, by_handle), setattr=cut)

    @rule(who=users, inode=inodes, mode=modes)
    def chmod(self, who: User, inode: int, mode: int) -> None:
        inode = self.inode(inode)
        self.mutate(who, lambda now: self.tree.chmod(who, now, inode, mode), setattr=mode_of(inode, mode))

    @rule(
        who=users, inode=inodes,
        uid=st.sampled_from([None, None, 0, 1000, 1001]), gid=st.sampled_from([None, 0, 1000, 1001, 3000]),
    )  # fmt: skip
    def chown(self, who: User, inode: int, uid: int | None, gid: int | None) -> None:
        inode = self.inode(inode)
        given = name_pb2.SetAttr(inode=inode, uid=uid, gid=gid)
        self.mutate(who, lambda now: self.tree.chown(who, now, inode, uid, gid), setattr=given)

    @rule(who=users, inode=inodes, atime=times, mtime=times)
    def utimes(self, who: User, inode: int, atime: int | None, mtime: int | None) -> None:
        inode = self.inode(inode)
        given = name_pb2.SetAttr(
            inode=inode, atime_ns=atime, mtime_ns=mtime, atime_now=atime is None, mtime_now=mtime is None
        )
        self.mutate(who, lambda now: self.tree.utimes(who, now, inode, atime, mtime), setattr=given)

    @rule(inode=inodes)
    def purge(self, inode: int) -> None:
        inode = self.inode(inode)
        self.admin(cluster_pb2.AdminCommand(purge=cluster_pb2.Purge(inodes=[inode])))
        self.tree.purge(inode)

    # ---- retries ---------------------------------------------------------------------------------------------------
    @rule(index=st.integers(0, 1000))
    def retry_an_earlier_change(self, index: int) -> None:
        """Much later, in any order: answered from memory, or refused once its reply was acknowledged."""
        request, encoded = self.done[1 + index % self.op_id]
        reply = self.apply_bytes(request)
        if request.op_id >= self.acked_below:
            assert reply == encoded
        else:
            assert name_pb2.NameReply.FromString(reply).error.errno == errno.EINVAL

    @rule(below=st.integers(1, 1000))
    def acknowledge(self, below: int) -> None:
        """Takes effect with the next change."""
        self.acked_below = max(self.acked_below, below % (self.op_id + 1))
        self.mutate(USERS[0], lambda now: self.tree.chmod(USERS[0], now, ROOT, 0o777), setattr=mode_of(ROOT, 0o777))


def choose(inodes: list[int], index: int) -> int:
    return inodes[index % len(inodes)]


def credentials(who: User) -> common_pb2.Credentials:
    return common_pb2.Credentials(uid=who.uid, gid=who.gid, groups=who.groups)


def mode_of(inode: int, mode: int) -> name_pb2.SetAttr:
    return name_pb2.SetAttr(inode=inode, mode=mode)


def outcome(reply: name_pb2.NameReply) -> tuple[str, int]:
    """The errno, or the inode that the reply is about (0: none)."""
    return ("refused", reply.error.errno) if reply.HasField("error") else ("done", reply.attr.inode)


def expectation(step: Callable[[], int]) -> tuple[str, int]:
    try:
        return ("done", step())
    except Refused as refused:
        return ("refused", refused.number)


def seen_attributes(attr: name_pb2.Attr) -> dict[str, object]:
    return {
        "inode": attr.inode, "kind": KINDS[attr.kind], "mode": oct(attr.mode), "uid": attr.uid, "gid": attr.gid,
        "nlink": attr.nlink, "size": attr.size, "blocks": attr.blocks, "version": attr.data_version,
        "atime": attr.atime_ns, "mtime": attr.mtime_ns, "ctime": attr.ctime_ns, "parent": attr.parent,
    }  # fmt: skip


def expected_attributes(inode: int, node: Node) -> dict[str, object]:
    is_directory = node.kind == "directory"
    return {
        "inode": inode, "kind": node.kind, "mode": oct(node.mode), "uid": node.uid, "gid": node.gid,
        "nlink": node.nlink, "size": DIRECTORY_BYTES if is_directory else node.size,
        "blocks": -(-len(node.data) // 512), "version": node.version,
        "atime": node.atime, "mtime": node.mtime, "ctime": node.ctime, "parent": node.parent if is_directory else 0,
    }  # fmt: skip


IN_CI = settings(
    max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def test_the_name_space_is_the_model() -> None:
    run_state_machine_as_test(Histories, settings=IN_CI)


class ForgetsSticky(Tree):
    def require_removal(self, who: User, directory: Node, victim: Node) -> None:
        self.require(who, directory, 3)


class ForgetsGroups(Tree):
    def make(self, who: User, now: int, parent: int, name: bytes, kind: Any, mode: int) -> int:
        inode = super().make(who, now, parent, name, kind, mode)
        self.nodes[inode].gid = who.gid
        return inode


class ForgetsSetId(Tree):
    def clear_set_id_unless_root(self, who: User, node: Node) -> None:
        """Does not."""


class ReplacesAnyway(Tree):
    def rename(self, who: User, now: int, source: tuple[int, bytes], target: tuple[int, bytes], flags: int) -> int:
        return super().rename(who, now, source, target, flags & ~NO_REPLACE)


class ChangesBeforeItChecks(Tree):
    def chown(self, who: User, now: int, inode: int, uid: int | None, gid: int | None) -> int:
        if inode in self.nodes:
            self.nodes[inode].ctime = now
        return super().chown(who, now, inode, uid, gid)


class MovesToTheEnd(Tree):
    def rename(self, who: User, now: int, source: tuple[int, bytes], target: tuple[int, bytes], flags: int) -> int:
        moved = super().rename(who, now, source, target, flags)
        entries = self.nodes[target[0]].entries
        if source != target:
            entries[target[1]] = entries.pop(target[1])
        return moved


@pytest.mark.parametrize(
    "wrong", [ForgetsSticky, ForgetsGroups, ForgetsSetId, ReplacesAnyway, ChangesBeforeItChecks, MovesToTheEnd]
)
def test_a_model_that_differs_in_one_rule_is_told_apart(wrong: type[Tree]) -> None:
    class Planted(Histories):
        model = wrong

    searching = settings(IN_CI, max_examples=400, phases=[Phase.generate], database=None, derandomize=True)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Planted, settings=searching)
