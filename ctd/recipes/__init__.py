"""How the models that come with the book were made: the teacher and the planted organisms."""
