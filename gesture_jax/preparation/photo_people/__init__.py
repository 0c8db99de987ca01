"""Photographed people who gesture on the stresses of made-up speech; see docs/photo_people.md."""
