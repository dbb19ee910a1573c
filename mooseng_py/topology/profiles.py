"""The clusters that MooseNG knows by name. Ports are documented here and nowhere computed from anything else."""

from __future__ import annotations

from .spec import ClusterSpec, NodeSpec, Ports, Role

# Ports of the n-th node of each role.
_MASTERS = (
    Ports(frames=9421, grpc=9431, http=9441),
    Ports(frames=9422, grpc=9432, http=9442),
    Ports(frames=9423, grpc=9433, http=9443),
)
_CHUNKSERVERS = (
    Ports(frames=9420, http=9471),
    Ports(frames=9450, http=9472),
    Ports(frames=9460, http=9473),
)
_CLIENTS = (Ports(http=9427), Ports(http=9437), Ports(http=9447))
DASHBOARD_PORT = 8080

# Nodes of each role, copies of each chunk, data directories of each chunkserver. A write needs `min_copies` servers.
PROFILES: dict[str, dict[str, int]] = {
    "minimal": {"nodes": 1, "copies": 1, "min_copies": 1, "disks": 1},
    "demo": {"nodes": 3, "copies": 3, "min_copies": 2, "disks": 2},
}


def profile(name: str, *, port_offset: int = 0, disks: int | None = None) -> ClusterSpec:
    """The cluster called `name`, all ports moved by `port_offset`; `disks` data directories on each chunkserver when given.

    Raises: ValueError naming the known profiles, or the number that does not fit.
    """
    if name not in PROFILES:
        raise ValueError(f"there is no profile {name!r}; the profiles are {', '.join(PROFILES)}")
    sizes = PROFILES[name]
    disks = sizes["disks"] if disks is None else disks
    if disks < 1:
        raise ValueError(f"disks={disks}: a chunkserver needs at least one data directory")
    count = sizes["nodes"]
    data = tuple(f"data-{disk}" for disk in range(1, disks + 1))
    nodes = [
        *(_node("master", index, ports, port_offset, ("data",)) for index, ports in enumerate(_MASTERS[:count], 1)),
        *(
            _node("chunkserver", index, ports, port_offset, data)
            for index, ports in enumerate(_CHUNKSERVERS[:count], 1)
        ),
        *(_node("client", index, ports, port_offset, ()) for index, ports in enumerate(_CLIENTS[:count], 1)),
    ]
    return ClusterSpec(profile=name, nodes=tuple(nodes), copies=sizes["copies"], min_copies=sizes["min_copies"])


def dashboard_node(port: int) -> NodeSpec:
    """The web dashboard, which runs beside the nodes and is none of them."""
    return NodeSpec("dashboard", "dashboard", 1, "dashboard", Ports(http=port))


def _node(role: Role, index: int, ports: Ports, offset: int, data: tuple[str, ...]) -> NodeSpec:
    moved = Ports(
        http=ports.http + offset,
        frames=None if ports.frames is None else ports.frames + offset,
        grpc=None if ports.grpc is None else ports.grpc + offset,
    )
    name = f"{role}-{index}"
    return NodeSpec(name=name, role=role, index=index, hostname=name, ports=moved, data_directories=data)
