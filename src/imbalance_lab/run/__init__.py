"""A whole trial and its folder without MLflow."""
