"""Ask a master what it sees, over frames and without a session: for the command line and the dashboard."""

from .frames import FILE_INFO, VIEW, ask

__all__ = ["FILE_INFO", "VIEW", "ask"]
