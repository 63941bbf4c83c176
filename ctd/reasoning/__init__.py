"""Language models that write chains of thought about documents, and what can be read from what they wrote."""
