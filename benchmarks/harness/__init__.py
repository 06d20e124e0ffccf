"""The harness of all benchmarks: contenders in processes of their own, taking turns, measured alike."""
