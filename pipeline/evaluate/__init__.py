"""Evaluate: how well neighbours predict a label or a number, by cross-validation, in each space.

found = evaluate(db, ["clip"], label="species", ks=[1, 5, 10], weightings=["uniform", "softmax"])
db.execute("select k, value from cv_metrics where run_id = ? and metric = 'accuracy'", (found.run_id,))
"""

from nearsql.pipeline.evaluate.replayed import recompute
from nearsql.pipeline.evaluate.run import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate", "recompute"]
