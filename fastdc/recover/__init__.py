"""Making images by optimisation: statistics of a teacher matched, losses, and the engine that runs them."""
