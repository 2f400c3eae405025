"""Linear programs that are tightened by rows that their optimum violates."""
