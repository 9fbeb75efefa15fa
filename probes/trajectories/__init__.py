"""What is told from curves over training: numbers in, numbers out."""
