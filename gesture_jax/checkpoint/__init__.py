"""Saves and reads train states, weights and configs."""
