"""All that has to be done where there is an accelerator: tests, agreement with the CPU, speed, and the tables at full size."""
