"""The measurements the README quotes. ``sudo make bench`` runs all; each module says what it measures."""
