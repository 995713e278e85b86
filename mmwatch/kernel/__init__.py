"""What this kernel offers (facts), which probes to use (plan), attaching them (builder) and reading (tracer).

The only place that imports bcc, and only when a tracer is started.
"""
