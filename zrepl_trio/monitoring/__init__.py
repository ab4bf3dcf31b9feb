"""What the daemon tells Prometheus. Only `metrics` and `families` know that library."""
