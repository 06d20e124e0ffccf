"""Teachers: name, plan, load and check the frozen networks that label, score or guide."""
