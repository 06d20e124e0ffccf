"""Networks and the training loop that `observe` and `train` share; independent of methods and protocols."""
