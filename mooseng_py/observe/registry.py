"""Every metric of MooseNG: name, kind, unit, help, labels. Code, dashboards, alert rules and docs/metrics.md take them from here.

A `summary` is exported by native code as NAME_sum and NAME_count. A metric that is not listed is a failing test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "summary"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is as exported, with unit and, for counters, `_total`."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """Which daemon exports it, as in a `ClusterSpec`; "" for all of them."""
        return _ROLES[self._prefix]

    @property
    def section(self) -> str:
        """Heading under which it is documented."""
        return _SECTIONS[self._prefix]

    @property
    def exported(self) -> tuple[str, ...]:
        """The names of its series."""
        return (self.name + "_sum", self.name + "_count") if self.kind == "summary" else (self.name,)

    @property
    def _prefix(self) -> str:
        first, _, rest = self.name.partition("_")
        return rest.partition("_")[0] if first == "mooseng" else first


_ROLES = {
    "node": "",
    "process": "",
    "planner": "master",
    "master": "master",
    "raft": "master",
    "chunkserver": "chunkserver",
    "client": "client",
    "fuse": "client",
    "up": "",
    "ALERTS": "",
}
_SECTIONS = {
    "node": "Every daemon",
    "process": "Every daemon",
    "planner": "Masters: planners",
    "master": "Masters: the leader's services",
    "raft": "Masters: Raft",
    "chunkserver": "Chunkservers",
    "client": "Clients: engine",
    "fuse": "Clients: FUSE",
    "up": "Made by Prometheus itself",
    "ALERTS": "Made by Prometheus itself",
}

_ALL = [
    # ---- every daemon (Python)
    Metric(
        "mooseng_node_info",
        "gauge",
        "",
        "Always 1; which node answers, in its labels. Prometheus calls its `role` exported_role.",
        ("role", "name", "version"),
    ),
    Metric("mooseng_node_ready", "gauge", "", "1 when /health/ready says yes."),
    # ---- every daemon (prometheus_client)
    Metric("process_cpu_seconds_total", "counter", "seconds", "Processor time that the daemon used."),
    Metric("process_resident_memory_bytes", "gauge", "bytes", "Memory that the daemon holds."),
    Metric("process_virtual_memory_bytes", "gauge", "bytes", "Address space that the daemon reserved."),
    Metric("process_start_time_seconds", "gauge", "seconds", "When the daemon started, since 1970."),
    Metric("process_open_fds", "gauge", "", "Open file descriptors."),
    Metric("process_max_fds", "gauge", "", "File descriptors that the daemon may open."),
    # ---- planners, on the leader (Python)
    Metric("mooseng_planner_rounds_total", "counter", "", "Rounds planned while this master led."),
    Metric(
        "mooseng_planner_failures_total", "counter", "", "Rounds that ended with an error; the next one tries again."
    ),
    Metric("mooseng_planner_intents_total", "counter", "", "Intents sent to the leader.", ("kind",)),
    # ---- masters: the data directory (Python)
    Metric(
        "mooseng_master_data_total_bytes", "gauge", "bytes", "Size of the file system with log, vote and snapshots."
    ),
    Metric("mooseng_master_data_free_bytes", "gauge", "bytes", "Room on it; a master that cannot write is of no use."),
    # ---- masters: the leader's services
    Metric("mooseng_master_ops_total", "counter", "", "Operations on names that this master answered.", ("op",)),
    Metric(
        "mooseng_master_commit_seconds",
        "summary",
        "seconds",
        "From a command's arrival until its batch is committed and applied.",
    ),
    Metric("mooseng_master_commit_seconds_max", "gauge", "seconds", "Longest commit since the last scrape."),
    Metric("mooseng_master_batch_commands", "summary", "", "Commands that one log entry carried."),
    Metric("mooseng_master_chunk_deletes_total", "counter", "", "Copies that chunkservers were told to delete."),
    Metric("mooseng_master_purged_inodes_total", "counter", "", "Unlinked files whose last user closed them."),
    Metric(
        "mooseng_master_sessions_expired_total",
        "counter",
        "",
        "Client sessions that ended because the client was silent.",
    ),
    Metric(
        "mooseng_master_health_scan_seconds",
        "gauge",
        "seconds",
        "Duration of the last comparison of the chunk table with the inventories.",
    ),
    Metric("mooseng_master_elections_won_total", "counter", "", "Times this master became leader since it started."),
    Metric(
        "mooseng_master_settled_chunks_total",
        "counter",
        "",
        "Chunks whose copies were compared after a writer ended, and are equal.",
    ),
    Metric(
        "mooseng_master_differing_copies_total",
        "counter",
        "",
        "Copies that differed from the first one of their chunk, and were made anew.",
    ),
    Metric("mooseng_master_heals_total", "counter", "", "Copies made, or tried, by result.", ("result",)),
    Metric("mooseng_master_term", "gauge", "", "Raft term as this master knows it."),
    Metric("mooseng_master_is_leader", "gauge", "", "1 on the leader that serves."),
    Metric("mooseng_master_elections_total", "counter", "", "Elections that this master saw since it started."),
    Metric("mooseng_master_committed_index", "gauge", "", "Last log entry known to be committed."),
    Metric("mooseng_master_applied_index", "gauge", "", "Last log entry applied to the name space."),
    Metric("mooseng_master_inodes", "gauge", "", "Files, directories and symlinks."),
    Metric("mooseng_master_chunks", "gauge", "", "Chunks in the committed table."),
    Metric("mooseng_master_sessions", "gauge", "", "Clients registered."),
    Metric("mooseng_master_file_bytes", "gauge", "bytes", "Sum of the lengths of all files."),
    Metric("mooseng_master_orphan_inodes", "gauge", "", "Unlinked files that somebody still holds open."),
    Metric(
        "mooseng_master_under_replicated_chunks", "gauge", "", "Chunks with fewer live copies than they should have."
    ),
    Metric(
        "mooseng_master_missing_chunks", "gauge", "", "Chunks without any live copy: their data cannot be read now."
    ),
    Metric("mooseng_master_orphan_copies", "gauge", "", "Stored copies that belong to no chunk of the table."),
    Metric(
        "mooseng_master_refused_servers",
        "gauge",
        "",
        "Chunkservers that remember more than these masters: the masters were put back to an older state.",
    ),
    Metric("mooseng_master_servers_up", "gauge", "", "Chunkservers that heartbeat."),
    Metric("mooseng_master_queued_commands", "gauge", "", "Commands waiting for the next log entry."),
    Metric("mooseng_master_queued_deletes", "gauge", "", "Deletes not yet confirmed by chunkservers."),
    Metric("mooseng_master_heals_running", "gauge", "", "Copies being made now."),
    Metric("mooseng_master_tables_bytes", "gauge", "bytes", "Memory of the name space tables, estimated."),
    Metric(
        "mooseng_master_level",
        "gauge",
        "",
        "Cluster level: what the masters may commit. It rises once every master runs software that can do more.",
    ),
    # ---- masters: Raft
    Metric("mooseng_raft_term", "gauge", "", "Current term."),
    Metric("mooseng_raft_leader", "gauge", "", "1 on the master that Raft calls leader, serving or not."),
    Metric("mooseng_raft_leader_id", "gauge", "", "Node id of the known leader, 0 without one."),
    Metric(
        "mooseng_raft_elections_total",
        "counter",
        "",
        "Elections seen since start; a rising count on a quiet cluster means that timeouts are too short.",
    ),
    Metric("mooseng_raft_last_log_index", "gauge", "", "Last entry in this master's log."),
    Metric("mooseng_raft_committed_index", "gauge", "", "Last committed entry known here."),
    Metric("mooseng_raft_applied_index", "gauge", "", "Last applied entry here."),
    Metric("mooseng_raft_snapshot_index", "gauge", "", "Last entry that the newest snapshot covers."),
    Metric("mooseng_raft_log_entries", "gauge", "", "Entries kept in the log."),
    Metric("mooseng_raft_log_bytes", "gauge", "bytes", "Size of the log's segments."),
    Metric("mooseng_raft_written_bytes_total", "counter", "bytes", "Bytes appended to the log."),
    Metric("mooseng_raft_sync_seconds", "summary", "seconds", "fdatasync of the log."),
    Metric("mooseng_raft_propose_seconds", "summary", "seconds", "From a proposal until it was applied."),
    Metric(
        "mooseng_raft_fenced",
        "gauge",
        "",
        "1 after a failed fsync: this master acknowledges nothing, and its process ends to be started again.",
    ),
    Metric(
        "mooseng_raft_snapshot_failing", "gauge", "", "1 while snapshots cannot be written; the log grows meanwhile."
    ),
    Metric("mooseng_raft_snapshot_failures_total", "counter", "", "Snapshots that could not be written."),
    Metric("mooseng_raft_quorum_ack_age_seconds", "gauge", "seconds", "Leader only: since a majority last answered."),
    Metric(
        "mooseng_raft_follower_lag_entries", "gauge", "", "Leader only: entries that a follower is behind.", ("node",)
    ),
    # ---- chunkservers
    Metric("mooseng_chunkserver_registered", "gauge", "", "1 while registered with the leader."),
    Metric(
        "mooseng_chunkserver_registrations_total",
        "counter",
        "",
        "Registrations since start; each change of leader costs one.",
    ),
    Metric("mooseng_chunkserver_ops_total", "counter", "", "Requests for chunk data.", ("op",)),
    Metric(
        "mooseng_chunkserver_ops_failed_total",
        "counter",
        "",
        "Requests for chunk data that ended with an error.",
        ("op",),
    ),
    Metric(
        "mooseng_chunkserver_op_seconds",
        "summary",
        "seconds",
        "Duration of a request here, the rest of the chain included.",
        ("op",),
    ),
    Metric("mooseng_chunkserver_op_seconds_max", "gauge", "seconds", "Longest request since the last scrape.", ("op",)),
    Metric("mooseng_chunkserver_read_bytes_total", "counter", "bytes", "Chunk bytes sent to readers."),
    Metric("mooseng_chunkserver_written_bytes_total", "counter", "bytes", "Chunk bytes written here."),
    Metric(
        "mooseng_chunkserver_bad_blocks_total",
        "counter",
        "",
        "Stored blocks whose checksum did not match.",
        ("found_by",),
    ),
    Metric("mooseng_chunkserver_bad_chunks", "gauge", "", "Chunks reported bad and not replaced yet."),
    Metric(
        "mooseng_chunkserver_copies_total",
        "counter",
        "",
        "Copies fetched from other servers, by outcome.",
        ("outcome",),
    ),
    Metric("mooseng_chunkserver_copied_bytes_total", "counter", "bytes", "Bytes fetched for copies."),
    Metric("mooseng_chunkserver_chunks_deleted_total", "counter", "", "Chunks deleted here."),
    Metric(
        "mooseng_chunkserver_chain_failures_total",
        "counter",
        "",
        "Writes that a later server of the chain did not take.",
    ),
    Metric(
        "mooseng_chunkserver_payload_bytes",
        "gauge",
        "bytes",
        "Chunk bytes in memory, of requests and of replies under way.",
        ("direction",),
    ),
    Metric(
        "mooseng_chunkserver_payload_limit_bytes",
        "gauge",
        "bytes",
        "Most of them (payload_budget_bytes).",
        ("direction",),
    ),
    Metric(
        "mooseng_chunkserver_payload_waits_total",
        "counter",
        "",
        "Requests that waited for room in memory before they were read or answered.",
        ("direction",),
    ),
    Metric("mooseng_chunkserver_chunks", "gauge", "", "Chunks stored here."),
    Metric("mooseng_chunkserver_disk_total_bytes", "gauge", "bytes", "Size of a disk.", ("disk",)),
    Metric("mooseng_chunkserver_disk_free_bytes", "gauge", "bytes", "Room for chunks on a disk.", ("disk",)),
    Metric("mooseng_chunkserver_disk_ok", "gauge", "", "1 while a disk can be used.", ("disk",)),
    # ---- client engine
    Metric(
        "mooseng_client_operation_seconds",
        "summary",
        "seconds",
        "Duration of an operation, retries included.",
        ("operation",),
    ),
    Metric(
        "mooseng_client_operation_seconds_max",
        "gauge",
        "seconds",
        "Longest operation since the last scrape.",
        ("operation",),
    ),
    Metric("mooseng_client_read_bytes_total", "counter", "bytes", "Bytes given to readers."),
    Metric("mooseng_client_written_bytes_total", "counter", "bytes", "Bytes taken from writers."),
    Metric("mooseng_client_fetched_bytes_total", "counter", "bytes", "Chunk bytes received."),
    Metric("mooseng_client_sent_bytes_total", "counter", "bytes", "Chunk bytes sent, resent ones included."),
    Metric("mooseng_client_read_ahead_hits_total", "counter", "", "Reads answered from what was fetched ahead."),
    Metric(
        "mooseng_client_hedged_reads_total", "counter", "", "Reads asked of a second copy because the first was slow."
    ),
    Metric(
        "mooseng_client_crc_errors_total",
        "counter",
        "",
        "Received blocks whose checksum did not match; another copy was read.",
    ),
    Metric("mooseng_client_name_retries_total", "counter", "", "Name operations sent again."),
    Metric("mooseng_client_data_retries_total", "counter", "", "Reads and writes of chunks sent again."),
    Metric(
        "mooseng_client_failed_replicas_total",
        "counter",
        "",
        "Copies left out of a write set because their server did not answer.",
    ),
    Metric("mooseng_client_leader_changes_total", "counter", "", "Times that another master turned out to lead."),
    Metric(
        "mooseng_client_sessions_registered_total",
        "counter",
        "",
        "Sessions registered; more than one means that one expired.",
    ),
    Metric(
        "mooseng_client_write_faults_total",
        "counter",
        "",
        "Background writes that failed; the program was told at write, fsync or close.",
    ),
    Metric("mooseng_client_dirty_bytes", "gauge", "bytes", "Written, and not yet acknowledged by every copy."),
    Metric("mooseng_client_open_files", "gauge", "", "Inodes held open."),
    Metric("mooseng_client_open_handles", "gauge", "", "Open file handles."),
    # ---- FUSE
    Metric("mooseng_fuse_mounted", "gauge", "", "1 while mounted."),
    Metric("mooseng_fuse_open_files", "gauge", "", "Handles that the kernel holds."),
    Metric("mooseng_fuse_request_seconds", "summary", "seconds", "Duration of a kernel request.", ("operation",)),
    Metric(
        "mooseng_fuse_request_seconds_max", "gauge", "seconds", "Longest request since the last scrape.", ("operation",)
    ),
    Metric(
        "mooseng_fuse_request_errors_total",
        "counter",
        "",
        "Requests answered with an errno, expected ones such as ENOENT included.",
        ("operation",),
    ),
    Metric("mooseng_fuse_read_bytes_total", "counter", "bytes", "Bytes given to the kernel."),
    Metric("mooseng_fuse_written_bytes_total", "counter", "bytes", "Bytes taken from the kernel."),
    # ---- Prometheus' own
    Metric("up", "gauge", "", "1 when the last scrape of a node succeeded."),
    Metric(
        "ALERTS", "gauge", "", "1 for each alert that is pending or firing.", ("alertname", "alertstate", "severity")
    ),
]

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def find(name: str) -> tuple[Metric, str] | None:
    """The metric that an exported sample belongs to, and which part of it: "" or, of a summary, "sum" or "count"."""
    if name in METRICS and METRICS[name].kind != "summary":
        return METRICS[name], ""
    base, _, part = name.rpartition("_")
    if part in ("sum", "count") and base in METRICS and METRICS[base].kind == "summary":
        return METRICS[base], part
    return None
