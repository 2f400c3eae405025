"""Linear programs, and what their solvers say."""
