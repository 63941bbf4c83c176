"""Readers: each returns a `Task`, documents with gold labels and the label space that they choose from."""

from ctd.datasets.task import SPLITS, Card, Task, labels_matrix, split_by_hash

__all__ = ["SPLITS", "Card", "Task", "labels_matrix", "split_by_hash"]
