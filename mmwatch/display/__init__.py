"""Snapshots and records as text for a terminal. Names from processes are cleaned before they are shown."""
