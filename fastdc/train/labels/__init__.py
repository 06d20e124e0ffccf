"""Targets of a training: hard labels, or a teacher's, computed online or stored."""
