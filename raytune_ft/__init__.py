"""Search, prove and serve fine-tuned language models on Ray."""

__version__ = "0.1.0"
