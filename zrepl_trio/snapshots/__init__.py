"""Taking snapshots: when, of what, and how it went."""
