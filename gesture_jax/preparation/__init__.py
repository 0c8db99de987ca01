"""Makes data sets from videos, photographs and the procedural speaker."""
