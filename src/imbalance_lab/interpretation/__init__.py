"""What a trained network looks at, measured on held-out data: one module per method."""
