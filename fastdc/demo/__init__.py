"""Run a first comparison on real images, from the download to the page, and summarise what its rows show."""
