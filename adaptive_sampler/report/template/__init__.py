"""The page as a file to fill in, its style and its script: none of them imports anything."""
