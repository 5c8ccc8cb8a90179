"""The decisions: pure functions for order, fit, plan and memory estimates."""
