"""What is trained: networks and classical classifiers behind one protocol; saved, read back."""
