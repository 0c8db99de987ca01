"""Devices, processes and compiled programs."""
