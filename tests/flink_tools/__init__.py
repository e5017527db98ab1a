"""Flink's own tools, unmodified, against our jobmanager: make check-flink-tools (run.py)."""
