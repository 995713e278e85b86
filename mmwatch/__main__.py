"""``python3 -m mmwatch``."""

from mmwatch.cli.entry import entry

entry()
