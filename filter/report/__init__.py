"""`report`: what is in scored files, as one HTML page with a desk on which thresholds are chosen."""
