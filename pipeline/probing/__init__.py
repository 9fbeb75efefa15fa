"""What is to be measured, and measuring one snapshot. Neither Ray nor MLflow is known here."""
