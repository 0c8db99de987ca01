"""Methods that only CPUs need."""
