"""What is served, beside plain fine-tuning, and how well calibrated scores find wrong labels."""
