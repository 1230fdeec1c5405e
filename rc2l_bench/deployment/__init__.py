"""What is done with a finished run: load its network, predict images of one's own, export it, describe it."""
