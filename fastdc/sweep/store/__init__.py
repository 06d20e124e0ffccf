"""Keep results in one SQLite file that several sweeps may share."""
