"""Forecasts what a sweep takes, before it starts and after its first rung: steps, tokens, memory, hours, cost."""
