"""Weights of published networks: downloaded or from a user's file, and laid out for Flax."""
