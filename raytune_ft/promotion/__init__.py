"""A run's winner becomes a version that is served, if every gate lets it."""
