"""Snapshots and records as text for a terminal. Nothing from a process gets here uncleaned, or out of here."""
