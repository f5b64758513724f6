"""What a person looks at: pictures of truth and prediction."""
