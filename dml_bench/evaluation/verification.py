"""Tell pairs of the same class from pairs of different ones, by a threshold on their similarity."""
