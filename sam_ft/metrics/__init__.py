"""What a model is worth: predictions on the host, arithmetic in plain functions, `evaluate.Metric` on top."""
