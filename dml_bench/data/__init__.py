"""Data: what a data set is, where its images come from, and how they reach the network in batches."""
