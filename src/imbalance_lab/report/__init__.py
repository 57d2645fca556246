"""Tables + figures -> one HTML page."""
