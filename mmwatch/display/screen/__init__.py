"""The full-screen display: Textual draws it; what it shows and in which order is plain Python beside it."""
