"""The figures of the report, each one a function from numbers to an SVG string."""
