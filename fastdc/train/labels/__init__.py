"""Targets of a training: hard labels, or a teacher's, made anew or stored."""
