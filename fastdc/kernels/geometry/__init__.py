"""Distances, neighbours, clusters and greedy covers of feature vectors."""
