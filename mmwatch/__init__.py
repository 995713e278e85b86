"""mmwatch: who reclaims memory on a Linux host, by which path, how hard, and at what cost."""

__version__ = "0.1.0"
