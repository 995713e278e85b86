"""What this kernel offers (facts), which probes to use (plan), attaching and reading them (tracer).

The only place that imports bcc, and only when a tracer is started.
"""
