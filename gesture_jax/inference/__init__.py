"""From a portrait and speech to frames."""
