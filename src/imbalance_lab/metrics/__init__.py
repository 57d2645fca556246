"""Numbers from counts and probabilities: the ground floor of the audit, the analyses and the comparison."""
