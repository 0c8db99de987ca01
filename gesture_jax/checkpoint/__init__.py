"""What training saves, and what reads it."""
