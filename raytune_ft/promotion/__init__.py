"""Promotes a run's winner to a registry version if every gate passes."""
