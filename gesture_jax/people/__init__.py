"""Finds people, joints, hands and faces in pictures."""
