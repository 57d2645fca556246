"""A simulated mill and faults to plant in it: the embedded default, and the ground truth of the tests."""
