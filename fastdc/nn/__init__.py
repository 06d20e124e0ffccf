"""Networks and the one training loop; shared by `observe` and `train`, knows neither methods nor protocols."""
