"""Find classes and images in folders, archives and parquet shards."""
