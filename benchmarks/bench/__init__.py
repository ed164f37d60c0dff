"""The benchmarks of bisift: what they measure and how, see docs/benchmarks.md. Linux only (memory is read in /proc)."""
