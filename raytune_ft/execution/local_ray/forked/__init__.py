"""Ray's workers, forked from one process that has imported what they need: see `started`."""
