"""The tutorial, and what a notebook asks of a pool, in a real kernel."""
