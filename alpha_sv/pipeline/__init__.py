"""The arrows between the files of an evaluation, as functions:
the command line and the demo call these."""
