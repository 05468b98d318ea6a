"""The demo: a made-up shop whose jobs show what the system does, and checks that it did."""
