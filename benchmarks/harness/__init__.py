"""Harness of all benchmarks: contenders run in separate processes, take turns, and are measured alike."""
