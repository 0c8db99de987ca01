"""Reads and writes video, sound and pictures."""
