"""Devices, processes, compiled programs."""
