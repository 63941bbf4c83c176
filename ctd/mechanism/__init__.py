"""Looking inside a model: attention heads, their scores, patching, trajectories, and the two phases."""
