"""MooseNG: a distributed file system that a Python team starts, mounts and imports."""
