"""Beginning without a trained version: the daemon waits for enough records, and trains beside its work."""
