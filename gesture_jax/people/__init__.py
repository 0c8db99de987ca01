"""Where people, hands and faces are in a picture."""
