"""Ray's workers as copies of one process that has imported what they need: see `started`."""
