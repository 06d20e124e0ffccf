"""Find classes and images in folders, archives, tables and shards."""
