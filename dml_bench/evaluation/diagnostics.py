"""Describe how embeddings lie in space, whatever they are used for."""
