"""The explorer: a folder of static pages in which a reader moves along a chain of thought. It works from a file."""
