"""A session as one SQLite file that any client can read. It is written live and read back as the same intervals."""

from __future__ import annotations

from mmwatch.recording.folding import fold, series
from mmwatch.recording.new import NewFile
from mmwatch.recording.reader import Reader
from mmwatch.recording.timeline import ALL, Moment, Span, Timeline
from mmwatch.recording.writer import Summary, Writer

__all__ = ["ALL", "Moment", "NewFile", "Reader", "Span", "Summary", "Timeline", "Writer", "fold", "series"]
