"""Which snapshots a job's keep rules let go."""
