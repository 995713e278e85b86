"""``python3 -m mmwatch``."""

from mmwatch.cli.main import entry

entry()
