"""What a study file says, and the runs and the plan that it becomes."""
