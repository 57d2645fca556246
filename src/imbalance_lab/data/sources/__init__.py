"""The sources of data, one module each: what a file has in it becomes one loaded data set."""
