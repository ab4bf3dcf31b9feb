"""zrepl-trio: ZFS snapshot replication between hosts."""

__version__ = "0.1.0.dev0"
