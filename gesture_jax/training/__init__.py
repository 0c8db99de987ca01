"""The training loop, and each stage as a task of it."""
