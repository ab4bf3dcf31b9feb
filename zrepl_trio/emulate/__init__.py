"""An emulated ZFS: one model of pools, used in memory and by emulated `zfs` and `zpool` commands.

Nothing in this package imports `typing`, `dataclasses`, `re` or `json`: each doubles or triples the
start-up time of a command that is run thousands of times in a test run.
"""
