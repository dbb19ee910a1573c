"""The master daemon: the native node, gRPC beside it, planners on the leader."""
