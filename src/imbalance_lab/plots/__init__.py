"""Table -> matplotlib Figure; every figure goes through plots.style."""
