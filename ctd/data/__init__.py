"""Documents and the labels that they choose from: label spaces, tasks, and a reader for each source."""
