"""The measurements that the README quotes. ``sudo make bench`` runs them all; each module says what it measures."""
