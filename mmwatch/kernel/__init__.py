"""Finds what this kernel offers (facts), chooses probes (plan), attaches them (builder) and reads them (tracer).

Only this package imports bcc, and only when a tracer starts.
"""
