"""The procedural speaker: drawn people who speak and gesture, for demos, tests and benchmarks."""
