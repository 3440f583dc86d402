"""Classify each query by the nearest class center."""
