"""Files, on this machine and in buckets."""
