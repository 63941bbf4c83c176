"""Finding labels without a language model: encoders, indexes, shortlists, and the metrics that score them."""
