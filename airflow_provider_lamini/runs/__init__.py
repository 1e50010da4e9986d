"""What a task does while it runs: many rows, or one job. Operators are thin above it."""
