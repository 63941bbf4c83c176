"""Teaching students: training, losses, methods, experiments, and what the students can do afterwards."""
