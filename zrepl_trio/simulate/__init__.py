"""A set-up of several hosts run on a test clock and pools in memory, to see what its configs will do."""
