"""The FUSE client daemon, and what concerns its mount point."""
