"""One thin module per entry point."""
