"""The built-in cohort: simulated heads with a known truth, written as real files. Every result on it says "phantom"."""
