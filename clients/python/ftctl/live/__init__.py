"""The live view of one job: what is known of it, how it is drawn, where it comes from."""
