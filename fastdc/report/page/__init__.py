"""Write the offline HTML page of a sweep."""
