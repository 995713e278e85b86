"""An observation: choosing a target, attaching, and reading at a steady beat, live or played back from a recording.

Commands and any other service that observes use this package. It does not print, parse options or handle signals.
"""
