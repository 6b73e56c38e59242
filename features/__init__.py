"""What a training example is, and every signal operation that more than one part needs."""
