"""The procedural speaker: a drawn person who speaks and gestures."""
