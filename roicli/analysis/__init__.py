"""What is asked of inputs and results: check, compare, diagnose, sweep, inspect, explain."""
