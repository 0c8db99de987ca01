"""What only CPUs want."""
