"""The public API's implementation; import from `holdfast`."""
