"""What the numbers among the settings may be. Made from the native library by `make limits`; do not edit."""

# Role, setting: least, most, default (None: it must be given).
LIMITS: dict[str, dict[str, tuple[int, int, int | None]]] = {
    "chunkserver": {
        "heartbeat_ms": (100, 60000, 1000),
        "payload_budget_bytes": (167772160, 1099511627776, 536870912),
        "reserve_bytes": (0, 1125899906842624, 268435456),
        "scrub_mb_s": (0, 10000, 8),
        "server_id": (1, 65535, None),
    },
    "client": {
        "deadline_ms": (100, 3600000, 60000),
        "read_ahead_bytes": (0, 67108864, 16777216),
        "write_window_bytes": (2097152, 134217728, 33554432),
    },
    "master": {
        "commit_window": (1, 64, 1),
        "copies": (1, 7, 3),
        "election_max_ms": (100, 120000, 1000),
        "election_min_ms": (50, 60000, 500),
        "heartbeat_ms": (10, 5000, 100),
        "inline_limit_bytes": (0, 65536, 8192),
        "level": (1, 3, 3),
        "min_copies": (1, 7, 2),
        "node_id": (1, 255, None),
        "segment_bytes": (1048576, 1073741824, 67108864),
        "server_timeout_ms": (500, 600000, 3000),
        "session_timeout_ms": (1000, 3600000, 60000),
        "snapshot_every": (100, 100000000, 100000),
    },
    "mount": {
        "threads": (1, 16, 2),
    },
}
