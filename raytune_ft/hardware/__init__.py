"""What a machine computes on, and what that is fast in."""
