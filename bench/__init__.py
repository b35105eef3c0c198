"""Benchmarks: ratios in one run, on one server, beside bare SQL with the same statements."""
