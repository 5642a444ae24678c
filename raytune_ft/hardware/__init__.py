"""The devices of a machine, and the number types that they compute fast in."""
