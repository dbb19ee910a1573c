"""Commands for the name space's state machine as a leader makes them, and what its tables cost in memory."""

import gc
import os
from pathlib import Path

from mooseng_py.native import NameSpaceState
from mooseng_py.proto import cluster_pb2, common_pb2, name_pb2

ROOT = 1
FILES_PER_DIRECTORY = 1000
CREDENTIALS = common_pb2.Credentials(uid=1000, gid=1000)


class Leader:
    """One session's changes, stamped and numbered; every reply is acknowledged by the next change."""

    def __init__(self, state: NameSpaceState) -> None:
        self.state = state
        self.now_ns = 1_700_000_000_000_000_000
        self.op_id = 0
        boot = cluster_pb2.Bootstrap(cluster_id="benchmark", copies=3, min_copies=2, inline_limit=8192)
        self._admin(cluster_pb2.AdminCommand(bootstrap=boot))
        register = name_pb2.RegisterSession(name="benchmark")
        self.session = self.run(self.command(name_pb2.NameRequest(register_session=register))).session
        root = common_pb2.Credentials(uid=0, gid=0)
        opened = name_pb2.SetAttr(inode=ROOT, mode=0o777)
        self.run(self.command(name_pb2.NameRequest(creds=root, setattr=opened)))

    def _admin(self, command: cluster_pb2.AdminCommand) -> None:
        reply = self.state.apply(cluster_pb2.Command(now_ns=self.now_ns, admin=command).SerializeToString())
        assert not cluster_pb2.AdminReply.FromString(reply).HasField("error")

    def command(self, request: name_pb2.NameRequest) -> bytes:
        """The encoded command for a change; its order is that of these calls."""
        self.now_ns += 1000
        if not request.HasField("register_session"):
            self.op_id += 1
            request.session, request.op_id, request.acked_below = self.session, self.op_id, self.op_id
        return cluster_pb2.Command(now_ns=self.now_ns, seed=self.op_id, name=request).SerializeToString()

    def run(self, command: bytes) -> name_pb2.NameReply:
        reply = name_pb2.NameReply.FromString(self.state.apply(command))
        assert not reply.HasField("error"), reply.error.message
        return reply

    def mkdir(self, parent: int, name: str) -> int:
        made = name_pb2.MkDir(parent=parent, name=name.encode(), mode=0o755)
        return self.run(self.command(name_pb2.NameRequest(creds=CREDENTIALS, mkdir=made))).attr.inode

    def create_command(self, parent: int, name: str) -> bytes:
        made = name_pb2.Create(parent=parent, name=name.encode(), mode=0o644, exclusive=True, write=True)
        return self.command(name_pb2.NameRequest(creds=CREDENTIALS, create=made))

    def write_command(self, inode: int, data: bytes) -> bytes:
        written = name_pb2.WriteInline(inode=inode, data=data)
        return self.command(name_pb2.NameRequest(creds=CREDENTIALS, write_inline=written))


def lookup_request(parent: int, name: str) -> bytes:
    found = name_pb2.Lookup(parent=parent, name=name.encode())
    return name_pb2.NameRequest(creds=CREDENTIALS, lookup=found).SerializeToString()


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth_per_file(count: int, data_bytes: int) -> float:
    """Bytes by which this process grows for each file with so many bytes of content. To be called in a fresh process."""
    with NameSpaceState() as state:
        leader = Leader(state)
        fill(leader, "warm", FILES_PER_DIRECTORY, data_bytes)
        before = resident_bytes()
        for start in range(0, count, FILES_PER_DIRECTORY):
            fill(leader, f"directory-{start}", FILES_PER_DIRECTORY, data_bytes)
        return (resident_bytes() - before) / count


def fill(leader: Leader, directory: str, count: int, data_bytes: int) -> None:
    parent = leader.mkdir(ROOT, directory)
    for index in range(count):
        inode = leader.run(leader.create_command(parent, f"file-{index:08}")).attr.inode
        if data_bytes:
            leader.run(leader.write_command(inode, index.to_bytes(4, "little") * (data_bytes // 4)))
