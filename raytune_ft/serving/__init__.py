"""The endpoint: Ray Serve and vLLM answer for the base and the registry's adapters by name."""
