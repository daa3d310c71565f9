"""Search beside its peers and the machine's limits, in one run: `python -m benchmarks.search --help`.

measure: times, and what is kept of them. data: the vectors. peers: other libraries' calls. floors,
exact, indexed, opening, others: what is measured. results, bars, tables, page, plots: what is stored,
judged and shown.
"""
