"""Compares two folders of videos: scores, plots and a report."""
