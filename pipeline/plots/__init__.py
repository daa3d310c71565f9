"""Plots of what is in a file, as PNG or SVG: maps, sweeps, evaluations, confusions, losses.

Each plot is a function that reads and gives a `Plot`, a figure with words about it:

    from nearsql.pipeline.plots.evaluation import evaluation_plot
    evaluation_plot(db, 9).save("evaluation.svg")

Nothing is written to the database. The same input gives the same bytes.
"""
