"""Training dynamics of logits, and scores from epochs of them."""
