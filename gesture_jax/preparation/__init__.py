"""Makes data sets: of videos, of photographs, of the procedural speaker."""
