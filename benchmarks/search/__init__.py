"""Search beside its peers and the machine's limits, in one run: `python -m benchmarks.search --help`.

measure: times, and what is kept of them. data: the vectors. peers: other libraries' calls. Then one
module for each group of measurements. results, bars, page, plots: what is stored, judged and shown.
"""
