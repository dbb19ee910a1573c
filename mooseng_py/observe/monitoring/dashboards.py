"""The four dashboards: health, performance, storage, Raft."""

from __future__ import annotations

from .panels import Board, Mood, Row, graph, number
from .promql import age, aggregate, happened, mean, rate, restarts, value

_NODE = "{{instance}}"


def boards() -> list[Board]:
    """All of them. Raises: QueryError when one asks for what nobody emits."""
    return [_health(), _performance(), _storage(), _raft()]


def _health() -> Board:
    bad_from_one: tuple[tuple[float, Mood], ...] = ((0, "good"), (1, "bad"))
    return Board(
        "health",
        "MooseNG: health",
        "Is every node there, is there one leader, has every chunk its copies, does anything need hands.",
        (
            Row(
                "Now",
                (
                    number("Leaders", aggregate("sum", value("mooseng_master_is_leader")), (0, "bad"), (1, "good"), (2, "bad")),
                    number("Nodes ready", aggregate("sum", value("mooseng_node_ready")), (0, "bad"), (1, "good")),
                    number("Nodes down", aggregate("count", value("up", job="mooseng").equals(0)).or_zero(), *bad_from_one),
                    number("Alerts firing", aggregate("count", value("ALERTS", alertstate="firing")).or_zero(), *bad_from_one),
                    number("Missing chunks", value("mooseng_master_missing_chunks").on_leader(), *bad_from_one),
                    number("Under-replicated chunks", value("mooseng_master_under_replicated_chunks").on_leader(), (0, "good"), (1, "odd")),
                    number("Chunkservers", value("mooseng_master_servers_up").on_leader()),
                    number("Clients", value("mooseng_master_sessions").on_leader()),
                ),
            ),
            Row(
                "Nodes",
                (
                    graph("Ready", (value("mooseng_node_ready"), _NODE)),
                    graph("Scraped", (value("up", job="mooseng"), _NODE)),
                    graph("Starts in the last hour", (restarts("1h"), _NODE)),
                    graph("Running for", (age("process_start_time_seconds"), _NODE)),
                    graph("Mounted", (value("mooseng_fuse_mounted"), _NODE)),
                    graph("Registered chunkservers", (value("mooseng_chunkserver_registered"), _NODE)),
                ),
            ),
            Row(
                "Sessions and planners",
                (
                    graph(
                        "Sessions that expired, registrations",
                        (rate("mooseng_master_sessions_expired_total"), "expired"),
                        (rate("mooseng_client_sessions_registered_total"), "registered by clients"),
                        (rate("mooseng_chunkserver_registrations_total"), "registered by chunkservers"),
                    ),
                    graph(
                        "Planner rounds",
                        (rate("mooseng_planner_rounds_total"), "rounds"),
                        (rate("mooseng_planner_failures_total"), "failed"),
                    ),
                    graph("Planner intents", (rate("mooseng_planner_intents_total", "kind"), "{{kind}}")),
                ),
            ),
            Row(
                "Processes",
                (
                    graph("Processors in use", (rate("process_cpu_seconds_total", "instance"), _NODE)),
                    graph("Memory", (value("process_resident_memory_bytes"), _NODE)),
                    graph(
                        "File descriptors, part of the limit",
                        (value("process_open_fds") / value("process_max_fds"), _NODE),
                    ),
                ),
            ),
        ),
    )  # fmt: skip


def _performance() -> Board:
    return Board(
        "performance",
        "MooseNG: performance",
        "How much is read and written, how long it takes, and where the time goes: kernel, client, chunkserver, master.",
        (
            Row(
                "Throughput",
                (
                    graph(
                        "Programs, through FUSE",
                        (rate("mooseng_fuse_read_bytes_total"), "read"),
                        (rate("mooseng_fuse_written_bytes_total"), "written"),
                    ),
                    graph(
                        "Client engines",
                        (rate("mooseng_client_read_bytes_total"), "given to readers"),
                        (rate("mooseng_client_fetched_bytes_total"), "fetched"),
                        (rate("mooseng_client_written_bytes_total"), "taken from writers"),
                        (rate("mooseng_client_sent_bytes_total"), "sent"),
                    ),
                    graph(
                        "Chunkservers",
                        (rate("mooseng_chunkserver_read_bytes_total", "instance"), "{{instance}} read"),
                        (rate("mooseng_chunkserver_written_bytes_total", "instance"), "{{instance}} written"),
                    ),
                ),
            ),
            Row(
                "FUSE",
                (
                    graph("Requests", (happened("mooseng_fuse_request_seconds", "operation"), "{{operation}}")),
                    graph("Mean duration", (mean("mooseng_fuse_request_seconds", "operation"), "{{operation}}")),
                    graph(
                        "Longest since the last scrape",
                        (aggregate("max", value("mooseng_fuse_request_seconds_max"), "operation"), "{{operation}}"),
                    ),
                    graph(
                        "Answered with an errno", (rate("mooseng_fuse_request_errors_total", "operation"), "{{operation}}")
                    ),
                    graph("Handles that the kernel holds", (value("mooseng_fuse_open_files"), _NODE)),
                    graph(
                        "Open in the engines",
                        (value("mooseng_client_open_files"), "{{instance}} files"),
                        (value("mooseng_client_open_handles"), "{{instance}} handles"),
                    ),
                ),
            ),
            Row(
                "Client engines",
                (
                    graph("Operations", (happened("mooseng_client_operation_seconds", "operation"), "{{operation}}")),
                    graph("Mean duration", (mean("mooseng_client_operation_seconds", "operation"), "{{operation}}")),
                    graph(
                        "Longest since the last scrape",
                        (aggregate("max", value("mooseng_client_operation_seconds_max"), "operation"), "{{operation}}"),
                    ),
                    graph("Written and not yet acknowledged", (value("mooseng_client_dirty_bytes"), _NODE)),
                    graph(
                        "Reading",
                        (rate("mooseng_client_read_ahead_hits_total"), "fetched ahead"),
                        (rate("mooseng_client_hedged_reads_total"), "asked of a second copy"),
                        (rate("mooseng_client_crc_errors_total"), "checksum did not match"),
                    ),
                    graph(
                        "Tried again",
                        (rate("mooseng_client_name_retries_total"), "names"),
                        (rate("mooseng_client_data_retries_total"), "data"),
                        (rate("mooseng_client_failed_replicas_total"), "copies left out"),
                        (rate("mooseng_client_write_faults_total"), "writes that failed"),
                        (rate("mooseng_client_leader_changes_total"), "another leader"),
                    ),
                ),
            ),
            Row(
                "Chunkservers",
                (
                    graph("Requests", (rate("mooseng_chunkserver_ops_total", "op"), "{{op}}")),
                    graph("Mean duration", (mean("mooseng_chunkserver_op_seconds", "op"), "{{op}}")),
                    graph(
                        "Longest since the last scrape",
                        (aggregate("max", value("mooseng_chunkserver_op_seconds_max"), "op"), "{{op}}"),
                    ),
                    graph("Mean duration of writes", (mean("mooseng_chunkserver_op_seconds", "instance", op="write"), _NODE)),
                    graph("Failed requests", (rate("mooseng_chunkserver_ops_failed_total", "instance", "op"), "{{instance}} {{op}}")),
                    graph("Chains that broke", (rate("mooseng_chunkserver_chain_failures_total", "instance"), _NODE)),
                    graph(
                        "Chunk bytes in memory",
                        (aggregate("sum", value("mooseng_chunkserver_payload_bytes"), "instance", "direction"), "{{instance}} {{direction}}"),
                        (aggregate("min", value("mooseng_chunkserver_payload_limit_bytes"), "direction"), "limit of {{direction}}"),
                    ),
                    graph(
                        "Waits for room in memory",
                        (rate("mooseng_chunkserver_payload_waits_total", "instance", "direction"), "{{instance}} {{direction}}"),
                    ),
                ),
            ),
            Row(
                "Leading master",
                (
                    graph("Operations on names", (rate("mooseng_master_ops_total", "op"), "{{op}}")),
                    graph(
                        "Commits",
                        (mean("mooseng_master_commit_seconds"), "mean"),
                        (value("mooseng_master_commit_seconds_max").on_leader(), "longest since the last scrape"),
                    ),
                    graph(
                        "Commands in one log entry, and waiting",
                        (mean("mooseng_master_batch_commands"), "in one entry"),
                        (value("mooseng_master_queued_commands").on_leader(), "waiting"),
                    ),
                ),
            ),
        ),
    )  # fmt: skip


def _storage() -> Board:
    free, total = value("mooseng_chunkserver_disk_free_bytes"), value("mooseng_chunkserver_disk_total_bytes")
    disk = "{{instance}} {{disk}}"
    return Board(
        "storage",
        "MooseNG: storage",
        "Files, chunks and copies; disks and how full they are; damage found and repaired.",
        (
            Row(
                "Now",
                (
                    number("In files", value("mooseng_master_file_bytes").on_leader()),
                    number("Files and directories", value("mooseng_master_inodes").on_leader()),
                    number("Chunks", value("mooseng_master_chunks").on_leader()),
                    number("Free on chunkservers", aggregate("sum", free)),
                    number("Fullest disk, free", aggregate("min", free / total), (0, "bad"), (0.1, "odd"), (0.2, "good")),
                    number("Failed disks", aggregate("count", value("mooseng_chunkserver_disk_ok").equals(0)).or_zero(), (0, "good"), (1, "bad")),
                    number("Bad chunks", aggregate("sum", value("mooseng_chunkserver_bad_chunks")), (0, "good"), (1, "bad")),
                ),
            ),
            Row(
                "Disks",
                (
                    graph("Free", (free, disk)),
                    graph("Free, part of the disk", (free / total, disk)),
                    graph("Usable", (value("mooseng_chunkserver_disk_ok"), disk)),
                    graph("Chunks stored", (value("mooseng_chunkserver_chunks"), _NODE)),
                    graph(
                        "Masters' disks, free",
                        (value("mooseng_master_data_free_bytes") / value("mooseng_master_data_total_bytes"), _NODE),
                    ),
                    graph(
                        "Masters' memory for names",
                        (value("mooseng_master_tables_bytes"), _NODE),
                    ),
                ),
            ),
            Row(
                "Copies",
                (
                    graph(
                        "Chunks that lack copies",
                        (value("mooseng_master_under_replicated_chunks").on_leader(), "under-replicated"),
                        (value("mooseng_master_missing_chunks").on_leader(), "missing"),
                        (value("mooseng_master_heals_running").on_leader(), "being copied"),
                    ),
                    graph(
                        "Copies made",
                        (rate("mooseng_master_heals_total", "result"), "heals {{result}}"),
                        (rate("mooseng_master_settled_chunks_total"), "chunks settled"),
                        (rate("mooseng_master_differing_copies_total"), "copies that differed"),
                        (rate("mooseng_chunkserver_copies_total", "outcome"), "fetched {{outcome}}"),
                    ),
                    graph("Copied", (rate("mooseng_chunkserver_copied_bytes_total", "instance"), _NODE)),
                    graph("Damaged blocks found", (rate("mooseng_chunkserver_bad_blocks_total", "instance", "found_by"), "{{instance}} {{found_by}}")),
                    graph("Bad chunks not replaced yet", (value("mooseng_chunkserver_bad_chunks"), _NODE)),
                    graph("Health scan", (value("mooseng_master_health_scan_seconds").on_leader(), "duration")),
                ),
            ),
            Row(
                "Deleting",
                (
                    graph(
                        "Waiting to go",
                        (value("mooseng_master_queued_deletes").on_leader(), "deletes not confirmed"),
                        (value("mooseng_master_orphan_copies").on_leader(), "copies of no chunk"),
                        (value("mooseng_master_orphan_inodes").on_leader(), "unlinked files still open"),
                    ),
                    graph(
                        "Gone",
                        (rate("mooseng_master_chunk_deletes_total"), "copies told to go"),
                        (rate("mooseng_chunkserver_chunks_deleted_total"), "chunks deleted"),
                        (rate("mooseng_master_purged_inodes_total"), "unlinked files"),
                    ),
                    graph(
                        "Files and chunks",
                        (value("mooseng_master_inodes").on_leader(), "files and directories"),
                        (value("mooseng_master_chunks").on_leader(), "chunks"),
                    ),
                ),
            ),
        ),
    )  # fmt: skip


def _raft() -> Board:
    return Board(
        "raft",
        "MooseNG: Raft",
        "Who leads, how quickly the masters agree, how far each one is.",
        (
            Row(
                "Now",
                (
                    number("Leader's node id", aggregate("max", value("mooseng_raft_leader_id")), (0, "bad"), (1, "good")),
                    number("Term", aggregate("max", value("mooseng_raft_term"))),
                    number("Cluster level", value("mooseng_master_level").on_leader()),
                    number("Committed entry", aggregate("max", value("mooseng_raft_committed_index"))),
                    number("Largest lag of a follower", aggregate("max", value("mooseng_raft_follower_lag_entries")), (0, "good"), (1000, "odd")),
                    number("Fenced masters", aggregate("sum", value("mooseng_raft_fenced")), (0, "good"), (1, "bad")),
                ),
            ),
            Row(
                "Leadership",
                (
                    graph("Leads and serves", (value("mooseng_master_is_leader"), _NODE)),
                    graph("Led, as Raft says", (value("mooseng_raft_leader"), _NODE)),
                    graph("Known leader's node id", (value("mooseng_raft_leader_id"), _NODE)),
                    graph("Term", (value("mooseng_raft_term"), _NODE)),
                    graph(
                        "Elections",
                        (rate("mooseng_raft_elections_total", "instance"), "{{instance}} saw"),
                        (rate("mooseng_master_elections_won_total", "instance"), "{{instance}} won"),
                    ),
                    graph("Since a majority answered the leader", (value("mooseng_raft_quorum_ack_age_seconds"), _NODE)),
                ),
            ),
            Row(
                "Log",
                (
                    graph("fdatasync, mean", (mean("mooseng_raft_sync_seconds", "instance"), _NODE)),
                    graph("From proposal to applied, mean", (mean("mooseng_raft_propose_seconds"), "leader")),
                    graph("Written", (rate("mooseng_raft_written_bytes_total", "instance"), _NODE)),
                    graph("Behind the leader, entries", (value("mooseng_raft_follower_lag_entries"), "node {{node}}")),
                    graph(
                        "Known and not applied, entries",
                        (value("mooseng_raft_committed_index") - value("mooseng_raft_applied_index"), _NODE),
                    ),
                    graph(
                        "After the newest snapshot, entries",
                        (value("mooseng_raft_last_log_index") - value("mooseng_raft_snapshot_index"), _NODE),
                    ),
                    graph("Kept in the log, entries", (value("mooseng_raft_log_entries"), _NODE)),
                    graph("Size of the log", (value("mooseng_raft_log_bytes"), _NODE)),
                    graph("Syncs", (happened("mooseng_raft_sync_seconds", "instance"), _NODE)),
                    graph(
                        "Snapshots that failed",
                        (rate("mooseng_raft_snapshot_failures_total", "instance"), _NODE),
                        (value("mooseng_raft_snapshot_failing"), "{{instance}} cannot now"),
                    ),
                ),
            ),
        ),
    )  # fmt: skip
