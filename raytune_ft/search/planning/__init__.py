"""What a sweep will take, before it starts and after its first rung: steps, tokens, memory, hours, cost."""
