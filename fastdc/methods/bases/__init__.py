"""What methods share: the interface, rankings, selection, patches, mosaics, recoveries."""
