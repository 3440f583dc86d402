"""Exact nearest neighbors and k-means: used by evaluation, losses and audits alike."""
