"""Reads and writes files on this machine and in buckets."""
